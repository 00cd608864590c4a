/* When what is read had come.
 *
 * | what                                                   | is dated by                                         |
 * | ------------------------------------------------------ | --------------------------------------------------- |
 * | heads, first tokens, ends; all that a late turn reads  | the kernel's stamp of the read's last byte (recvmsg) |
 * | tokens in a turn that is in time                       | the turn's begin: all that it finds had come by then |
 * | what follows in one read of a turn older than STALE_NS | now: it may have come since the turn began           |
 * | a read without a stamp (the kernel gave none)          | the turn's begin                                     |
 *
 * A date never lies before the connection's last one, nor before the request was sent, nor after now. A stamp is
 * of CLOCK_REALTIME, which is set at times: one that lies well before the last turn, which would have read what
 * it dates, or well ahead of now, says nothing, and the turn's begin dates instead.
 */
#include "native.h"

/* CLOCK_REALTIME less CLOCK_MONOTONIC, as it is now: the one is set and slewed, the other is only slewed. */
int64_t ahead_ns(void)
{
    int64_t before, wall, after;
    int tries = 3; /* an interrupt between the clocks would be taken for their difference */
    do {
        before = now_ns();
        wall = clock_ns(CLOCK_REALTIME);
        after = now_ns();
    } while (after - before > CLOSE_NS && --tries);
    return wall - (before + after) / 2;
}

/* When what a recv brought had come: its last byte, by the kernel's stamp, if there is one; else all that was
 * there when the turn began. */
int64_t arrival_ns(Conn *self, int64_t stamp_ns)
{
    Poller *poller = self->poller;
    int64_t at = poller->turn_ns;
    if (stamp_ns) {
        int64_t now = now_ns();
        int64_t dated = stamp_ns - poller->ahead_ns;
        int set = dated < poller->before_ns - STALE_NS || dated > now + STALE_NS;
        if (!set)
            at = dated < poller->before_ns ? poller->before_ns : dated > now ? now : dated;
        /* Of a read that brought several tokens the stamp is the last one's: it does not date the others. */
        if (poller->turn_ns - at > EXACT_NS)
            poller->unsure = -1;
        else if (poller->unsure > 0)
            poller->unsure--;
    }
    if (at < self->read_ns)
        at = self->read_ns;
    return at > self->sent_ns ? at : now_ns();
}

/* Dates what lies at p, within the read that begins at begin.
 *
 * The first bytes of a read were there when the turn began. What follows them may have come since, while
 * other connections were read: in an old turn it is dated by now. */
void date(Conn *self, const char *p, const char *begin)
{
    int64_t now = p == begin || self->exact ? 0 : now_ns();
    if (now > self->poller->turn_ns + STALE_NS)
        self->read_ns = now;
}
