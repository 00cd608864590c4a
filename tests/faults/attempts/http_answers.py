"""HTTP as servers and gateways really speak it: versions, framing, heads, encodings, status codes."""

from __future__ import annotations

import asyncio
import gzip
import zlib

from tests.faults.attempts.said import STREAM, THREE, TWO, chunk, chunked, head, sized
from tests.faults.attempts.wire import Row, heard, rows, write

HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CUT = (0, 4096)  # for what is too long for one byte a write
Z = gzip.compress(STREAM)
RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATE = RAW.compress(STREAM) + RAW.flush()
JSON_ERROR = b'{"error":{"message":"the queue is full"}}'


def deeds(*answers: tuple[bytes, float, bytes]):  # type: ignore[no-untyped-def]
    """A server that writes, waits, and writes again, for each request in turn; then closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for first, wait_s, then in answers:
            await heard(reader)
            await write(writer, first)
            await asyncio.sleep(wait_s)
            await write(writer, then)

    return serve


async def talks_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets before it is asked."""
    writer.write(b"220 mail.example.org ESMTP\r\n")
    await heard(reader)
    await asyncio.sleep(0.05)


async def refuses_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers when it has seen the head, and closes."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(sized(b"too large", b"connection: close", status=b"413 Payload Too Large"))
    await writer.drain()
    await asyncio.sleep(0.05)


rows(
    "http",
    Row(
        "10_close",
        "HTTP/1.0, the body ends with the connection",
        head(version=b"HTTP/1.0") + STREAM,
        close=True,
        chunks=3,
        connections=3,
    ),
    Row(
        "10_length",
        "HTTP/1.0 with a length, then closed",
        sized(STREAM).replace(b"/1.1", b"/1.0"),
        close=True,
        chunks=3,
    ),
    Row(
        "10_keep_alive",
        "HTTP/1.0 with keep-alive",
        sized(STREAM, b"Connection: keep-alive").replace(b"/1.1", b"/1.0"),
        chunks=3,
        connections=1,
    ),
    Row(
        "10_stays_open",
        "HTTP/1.0 without keep-alive, left open",
        sized(STREAM).replace(b"/1.1", b"/1.0"),
        chunks=3,
        connections=3,
    ),
    Row(
        "close_each",
        "Connection: close and closed after each",
        chunked(STREAM, fields=(b"Connection: close",)),
        close=True,
        chunks=3,
        connections=3,
    ),
    Row(
        "close_told",
        "Connection: close, left open",
        chunked(STREAM, fields=(b"Connection: close",)),
        chunks=3,
        connections=3,
    ),
    Row(
        "close_listed",
        "Connection: TE, Close",
        chunked(STREAM, fields=(b"Connection: TE, Close",)),
        chunks=3,
        connections=3,
    ),
    Row("kept", "one connection for all", chunked(STREAM), chunks=3, tokens=3, connections=1),
    Row("continue", "100 Continue five times first", CONTINUE * 5 + chunked(STREAM), chunks=3, connections=1),
    Row(
        "early_hints",
        "103 with fields, 102, then the answer",
        HINTS + b"HTTP/1.1 102 Processing\r\n\r\n" + HINTS + chunked(STREAM),
        chunks=3,
        connections=1,
    ),
    Row("only_hints", "103 and nothing more, closed", HINTS, close=True, end="reset"),
    Row(
        "extensions",
        "chunk extensions, quoted ones too",
        head(b"transfer-encoding: chunked") + chunk(STREAM, b';a="b c";d=e') + b"0;end\r\n\r\n",
        chunks=3,
    ),
    Row(
        "trailers",
        "trailers",
        head(b"transfer-encoding: chunked", b"trailer: x-a")
        + chunk(STREAM)
        + b"0\r\nx-a: 1\r\nx-b: 2\r\n\r\n",
        chunks=3,
        connections=1,
    ),
    Row(
        "chunk_zeros",
        "chunk sizes with leading zeros",
        head(b"transfer-encoding: chunked") + b"00000" + chunk(STREAM) + b"000\r\n\r\n",
        chunks=3,
    ),
    Row(
        "chunk_upper",
        "chunk sizes in capitals",
        head(b"transfer-encoding: chunked") + b"%X\r\n%b\r\n0\r\n\r\n" % (len(STREAM), STREAM),
        chunks=3,
    ),
    Row(
        "chunk_huge",
        "a chunk of 2^80 bytes",
        head(b"transfer-encoding: chunked") + b"1" + b"0" * 20 + b"\r\nx",
        end="bad_stream",
    ),
    Row(
        "chunk_negative", "a chunk of -1", head(b"transfer-encoding: chunked") + b"-1\r\nx", end="bad_stream"
    ),
    Row(
        "chunk_end_early",
        "the empty chunk after two tokens, then more",
        head(b"transfer-encoding: chunked") + chunk(TWO) + b"0\r\n\r\n" + chunk(THREE),
        end="truncated",
    ),
    Row(
        "length_and_chunks",
        "a length and chunks",
        head(b"content-length: 5", b"transfer-encoding: chunked") + chunk(STREAM) + b"0\r\n\r\n",
        end="bad_stream",
    ),
    Row("lengths_differ", "two lengths", sized(STREAM, b"content-length: 5"), end="bad_stream"),
    Row("length_negative", "a negative length", head(b"content-length: -5") + STREAM, end="bad_stream"),
    Row("length_words", "a length in words", head(b"content-length: five") + STREAM, end="bad_stream"),
    Row(
        "length_endless",
        "a length of 10^30",
        head(b"content-length: 1" + b"0" * 30) + STREAM,
        end="bad_stream",
    ),
    Row(
        "length_long",
        "a length beyond the body, closed after [DONE]",
        head(b"content-length: 99999") + STREAM,
        close=True,
        chunks=3,
    ),
    Row(
        "length_short",
        "a length that cuts the body",
        sized(STREAM).replace(b"length: %d" % len(STREAM), b"length: 90"),
        end="truncated",
    ),
    Row(
        "gzip", "gzip, not asked for", sized(Z, b"content-encoding: gzip"), chunks=3, tokens=3, connections=1
    ),
    Row(
        "gzip_capitals",
        "GZIP in capitals, in chunks of one byte",
        chunked(*(Z[i : i + 1] for i in range(len(Z))), fields=(b"Content-Encoding: GZIP",)),
        chunks=3,
    ),
    Row(
        "gzip_members",
        "gzip of two members",
        sized(gzip.compress(TWO) + gzip.compress(STREAM), b"content-encoding: gzip"),
        chunks=5,
    ),
    Row(
        "gzip_cut",
        "gzip cut short, the body ends well",
        sized(Z[:70], b"content-encoding: gzip"),
        end="truncated",
    ),
    Row(
        "gzip_lie",
        "gzip that is none",
        sized(STREAM, b"content-encoding: gzip"),
        end="bad_stream",
        says="damaged",
    ),
    Row(
        "gzip_error",
        "a 500 in gzip",
        sized(gzip.compress(JSON_ERROR), b"content-encoding: gzip", status=b"500 It Broke"),
        end="http_500",
        says="queue is full",
    ),
    Row(
        "deflate_raw",
        "deflate without zlib's head",
        sized(RAW_DEFLATE, b"content-encoding: deflate"),
        chunks=3,
    ),
    Row(
        "br_error",
        "a 500 in Brotli",
        sized(b"\x8b\x05\x80ab", b"content-encoding: br", status=b"500 It Broke"),
        end="http_500",
        says="br",
    ),
    Row("identity", "content-encoding: identity", sized(STREAM, b"content-encoding: identity"), chunks=3),
    Row(
        "br",
        "Brotli, which nobody asked for",
        sized(b"\x8b\x05\x80" + bytes(range(200)), b"content-encoding: br"),
        end="bad_stream",
        says="br",
    ),
    Row(
        "zstd",
        "zstd, which nobody asked for",
        sized(b"\x28\xb5\x2f\xfd" + bytes(range(200)), b"content-encoding: zstd"),
        end="bad_stream",
        says="zstd",
    ),
    Row(
        "encoded_twice",
        "gzip, gzip",
        sized(gzip.compress(Z), b"content-encoding: gzip, gzip"),
        end="bad_stream",
        says="gzip, gzip",
    ),
    Row(
        "transfer_gzip",
        "transfer-encoding: gzip, chunked",
        head(b"transfer-encoding: gzip, chunked") + chunk(Z) + b"0\r\n\r\n",
        end="bad_stream",
    ),
    Row(
        "http2",
        "frames of HTTP/2",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18,
        close=True,
        end="bad_stream",
    ),
    Row(
        "http2_line",
        "a status line of HTTP/2",
        head(version=b"HTTP/2") + STREAM,
        close=True,
        end="bad_stream",
    ),
    Row("http_09", "a body without any head", STREAM, close=True, end="bad_stream"),
    Row(
        "switches",
        "101 Switching Protocols",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n\x00\x00\x00",
        close=True,
        end="bad_stream",
    ),
    Row(
        "offers_h2c",
        "a 200 that offers an upgrade",
        chunked(STREAM, fields=(b"upgrade: h2c", b"connection: upgrade")),
        chunks=3,
    ),
    *(
        Row(
            f"status_{code}",
            f"a {code} with a location",
            sized(b"", b"location: http://127.0.0.1:1/", status=b"%d Moved" % code),
            end=f"http_{code}",
            says="redirect",
            connections=1,
        )
        for code in (301, 302, 303, 307, 308)
    ),
    Row(
        "status_204",
        "204 without a body",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        end="http_204",
        says="no body",
        connections=1,
    ),
    Row(
        "status_304",
        "304 without a body",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        end="http_304",
        connections=1,
    ),
    Row(
        "status_204_length",
        "204 that announces a body, and none comes",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
        end="http_204",
    ),
    Row(
        "status_429",
        "429 with Retry-After: nothing is sent again",
        sized(JSON_ERROR, b"retry-after: 1", status=b"429 Too Many"),
        end="http_429",
        says="queue is full",
        connections=1,
    ),
    Row(
        "status_503_date",
        "503 with Retry-After as a date of 1970",
        sized(b"", b"retry-after: Thu, 01 Jan 1970 00:00:00 GMT", status=b"503 Later"),
        end="http_503",
        says="no body",
    ),
    Row("status_999", "a status of 999", sized(b"odd", status=b"999 Odd"), end="http_999", says="odd"),
    Row("status_206", "206 Partial Content", sized(STREAM, status=b"206 Partial Content"), end="http_206"),
    Row(
        "status_long",
        "a 500 with 5 MB of body",
        sized(b"oops " * 1_000_000, status=b"500 Oops"),
        end="http_500",
        says="oops",
        cuts=(0,),
    ),
    Row(
        "status_latin",
        "a 500 with a Latin-1 body and NULs",
        sized("früh\0\x1b[2J".encode("latin-1"), status=b"500 Oops"),
        end="http_500",
    ),
    Row("no_reason", "a status line without a reason", chunked(STREAM).replace(b"200 OK", b"200"), chunks=3),
    Row(
        "blank_reason",
        "a status line that ends in a space",
        chunked(STREAM).replace(b"200 OK", b"200 "),
        chunks=3,
    ),
    Row(
        "latin_reason", "a reason in Latin-1", chunked(STREAM).replace(b"200 OK", b"200 \xe9t\xe9"), chunks=3
    ),
    Row(
        "odd_fields",
        "fields without value, in Latin-1, with colons",
        chunked(STREAM, fields=(b"x-empty:", b"x-latin: \xe9\xff", b"x-c: a:b:c", b"X-TAB:\ta")),
        chunks=3,
        connections=1,
    ),
    Row(
        "field_no_colon", "a field without a colon", chunked(STREAM, fields=(b"nonsense",)), end="bad_stream"
    ),
    Row("field_nul", "a NUL in a field", chunked(STREAM, fields=(b"x-nul: a\0b",)), end="bad_stream"),
    Row(
        "field_utf8",
        "a field in UTF-8",
        chunked(STREAM, fields=("x-u: 한글 \U0001f600".encode(),)),
        chunks=3,
        connections=1,
    ),
    Row(
        "many_fields",
        "1000 fields",
        chunked(STREAM, fields=tuple(b"x-%d: y" % i for i in range(1000))),
        chunks=3,
        connections=1,
        cuts=CUT,
    ),
    Row(
        "long_field",
        "a field of 60 KB",
        chunked(STREAM, fields=(b"x-long: " + b"y" * 60_000,)),
        chunks=3,
        cuts=CUT,
    ),
    Row(
        "endless_field",
        "a field of 1 MB",
        chunked(STREAM, fields=(b"x-long: " + b"y" * 1_000_000,)),
        end="bad_stream",
        cuts=CUT,
    ),
    Row(
        "cookies",
        "50 cookies",
        chunked(STREAM, fields=(b"set-cookie: a=b; Secure",) * 50),
        chunks=3,
        connections=1,
    ),
    Row(
        "date_skew",
        "a Date of 1970, one of 2999, one that is none",
        chunked(
            STREAM,
            fields=(
                b"Date: Thu, 01 Jan 1970 00:00:00 GMT",
                b"Date: Wed, 31 Dec 2999 23:59:59 GMT",
                b"Date: noon",
            ),
        ),
        chunks=3,
        connections=1,
    ),
    Row(
        "no_type",
        "no content-type",
        chunked(STREAM).replace(b"content-type: text/event-stream\r\n", b""),
        chunks=3,
    ),
    Row(
        "bare_lf",
        "a head of bare line feeds",
        chunked(STREAM).partition(b"\r\n\r\n")[0].replace(b"\r\n", b"\n")
        + b"\n\n"
        + chunk(STREAM)
        + b"0\r\n\r\n",
        end="bad_stream",
    ),
    Row("answer_twice", "each answer twice", chunked(STREAM) * 2, chunks=3, connections=3),
    Row(
        "bytes_behind",
        "bytes that belong to nothing behind each answer",
        chunked(STREAM) + b"hello",
        chunks=3,
        connections=3,
        cuts=(0,),
    ),
    Row("lines_behind", "empty lines behind each answer", chunked(STREAM) + b"\r\n\r\n", chunks=3, cuts=(0,)),
    Row(
        "timeout_behind",
        "a 408 on the idle connection, then closed",
        deeds((chunked(STREAM), 0.03, b"HTTP/1.0 408 Request Time-out\r\n\r\n")),
        chunks=3,
        gap_s=0.2,
    ),
    Row(
        "closes_behind",
        "closed right behind each answer, keep-alive promised",
        chunked(STREAM, fields=(b"connection: keep-alive", b"keep-alive: timeout=60")),
        close=True,
        chunks=3,
        cuts=(0,),
    ),
    Row("talks_first", "a mail server's greeting", talks_first, end="bad_stream"),
    Row("refuses_early", "413 before the body was read", refuses_early, end="http_413"),
    Row(
        "pauses_in_head",
        "half a head, a pause, the rest",
        deeds((head()[:20], 0.1, head()[20:] + STREAM)),
        chunks=3,
    ),
    Row(
        "pauses_in_size",
        "a pause in a chunk's size",
        deeds(
            (head(b"transfer-encoding: chunked") + chunk(STREAM)[:1], 0.1, chunk(STREAM)[1:] + b"0\r\n\r\n")
        ),
        chunks=3,
        gap_s=0.05,
    ),
    Row(
        "says_html",
        "a login page as a 200",
        sized(b"<html>" + b"<p>log in</p>" * 9, b"set-cookie: a=b"),
        end="bad_stream",
    ),
    Row("says_json", "an error as JSON in a 200", sized(JSON_ERROR), end="bad_stream", says="queue is full"),
    Row(
        "never",
        "no answer within the limit for the first token",
        deeds((b"", 5, b"")),
        end="timeout_ttft",
        limits=(5, 0.2, 5),
    ),
    Row(
        "stalls",
        "silence after two tokens",
        deeds((head(b"transfer-encoding: chunked") + chunk(TWO), 5, b"")),
        end="stalled",
        limits=(5, 5, 0.2),
    ),
    Row(
        "stalls_in_head",
        "silence within the head",
        deeds((head()[:30], 5, b"")),
        end="timeout_ttft",
        limits=(5, 0.2, 5),
    ),
)
