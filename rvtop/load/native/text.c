/* What the bytes of an answer say. Pure: bytes in, lengths out; nothing of Python is called. */
#include "native.h"

enum {
    HEX_DIGITS = 7,  /* of a chunk's size: more is nothing that we asked for */
    MOST_DIGITS = 18, /* of a number in a hole */
};

/* -- HTTP chunks ---------------------------------------------------------------------------------------- */

/* The length of the HTTP chunk at p, if it is whole and without extensions; else 0. */
size_t whole_chunk(const char *p, const char *end, const char **body, size_t *body_size)
{
    size_t size = 0;
    const char *at = p;
    for (; at < end && at - p < HEX_DIGITS; at++) {
        char c = *at;
        if (c >= '0' && c <= '9')
            size = size * 16 + (size_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            size = size * 16 + (size_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            size = size * 16 + (size_t)(c - 'A' + 10);
        else
            break;
    }
    if (at == p || end - at < 2 || at[0] != '\r' || at[1] != '\n')
        return 0;
    *body = at + 2;
    *body_size = size;
    if ((size_t)(end - *body) < size + 2 || (*body)[size] != '\r' || (*body)[size + 1] != '\n')
        return 0;
    return (size_t)(*body + size + 2 - p);
}

/* Whether p is the end of a chunked body: whole chunks, the empty one last. If so, its bytes are moved
 * together at p; *size is how many they are. */
int take_ending(char *p, const char *end, size_t *size)
{
    const char *at = p, *body;
    size_t length, body_size, total = 0;
    while ((length = whole_chunk(at, end, &body, &body_size)) && body_size) {
        at += length;
        total += body_size;
    }
    if (!length || at + length != end)
        return 0;
    char *to = p;
    for (at = p; to < p + total; at += length, to += body_size) {
        length = whole_chunk(at, end, &body, &body_size);
        memmove(to, body, body_size);
    }
    *size = total;
    return 1;
}

/* -- JSON strings --------------------------------------------------------------------------------------- */

/* Whether the byte at p is escaped: whether an odd number of backslashes stands before it. */
static int escaped(const char *begin, const char *p)
{
    int odd = 0;
    while (p > begin && *--p == '\\')
        odd = !odd;
    return odd;
}

/* Whether the bytes up to end are the inside of one JSON string: no quote ends it but the one at end. */
int one_text(const char *begin, const char *end)
{
    const char *quote = begin;
    while ((quote = memchr(quote, '"', (size_t)(end - quote)))) {
        if (!escaped(begin, quote))
            return 0;
        quote++;
    }
    return !escaped(begin, end);
}

/* -- templates ------------------------------------------------------------------------------------------ */

/* Where what fills the hole at p ends; NULL if nothing may fill it so. */
static const char *fill_hole(unsigned char hole, const char *p, const char *end)
{
    const char *begin = p;
    unsigned char c;
    if (hole == HOLE_NUMBER) { /* of JSON: no zero before other digits */
        while (p < end && *p >= '0' && *p <= '9')
            p++;
        return p == begin || p - begin > MOST_DIGITS || (*begin == '0' && p - begin > 1) ? NULL : p;
    }
    if (hole == HOLE_VALUE || hole == HOLE_ARM) { /* of an HTTP header */
        while (p < end && (((c = (unsigned char)*p) >= 0x20 && c != 0x7f) || c == '\t'))
            p++;
        return p;
    }
    /* Of a JSON string, without escapes: those are left to a real parser. A name is ASCII, too. */
    while (p < end && (c = (unsigned char)*p) >= 0x20 && c != '"' && c != '\\'
           && (hole == HOLE_TEXT || c < 0x7f))
        p++;
    return hole == HOLE_TEXT && p == begin ? NULL : p;
}

/* Notes where the holes are; a template that has too many becomes an empty one. */
void find_holes(Template *template)
{
    template->hole_count = 0;
    for (size_t i = 0; i < template->size; i++) {
        if ((unsigned char)template->bytes[i] > LAST_HOLE)
            continue;
        if (template->hole_count == MOST_HOLES) {
            template->size = template->hole_count = 0;
            return;
        }
        template->holes[template->hole_count++] = i;
    }
}

/* The end of what of p is the template; NULL if that is not there. text: what fills the last hole that is
 * one for text or an arm. */
const char *match(const Template *template, const char *p, const char *end, Span *text)
{
    size_t at = 0;
    for (size_t i = 0;; i++) {
        size_t stop = i < template->hole_count ? template->holes[i] : template->size;
        if ((size_t)(end - p) < stop - at || (stop > at && memcmp(p, template->bytes + at, stop - at)))
            return NULL;
        p += stop - at;
        if (stop == template->size)
            return p;
        unsigned char hole = (unsigned char)template->bytes[stop];
        const char *begin = p;
        if (!(p = fill_hole(hole, p, end)))
            return NULL;
        if (hole == HOLE_TEXT || hole == HOLE_ARM)
            *text = (Span){begin, p};
        at = stop + 1;
    }
}
