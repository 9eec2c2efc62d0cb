"""Frames a request whose body is not there yet: by its length, or in chunks (RFC 9112 §6, §7.1).

It sends nothing.
"""

from collections.abc import AsyncGenerator, AsyncIterable


async def framed(
    head: bytes, body: AsyncIterable[bytes], length: int | None
) -> AsyncGenerator[tuple[bytes, bool], None]:
    """Yield what is to be sent, and whether it is the last piece: in chunks, unless a length in bytes is given.

    The body is closed at the end, however it comes. Raises ValueError for one of another length, and what the body
    raises: the last piece was not yielded then.
    """
    pieces = aiter(body)
    try:
        yield head, False
        if length is None:
            async for piece in pieces:
                if piece:  # an empty chunk would end the body
                    yield b"%x\r\n%b\r\n" % (len(piece), piece), False
            yield b"0\r\n\r\n", True
            return
        left, last = length, b""
        async for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise ValueError("the request body is longer than its content-length")
            if left:
                yield piece, False
            else:  # kept back until the body has ended well: an agent must not act on one that fails at its end
                last += piece
        if left:
            raise ValueError("the request body is shorter than its content-length")
        yield last, True
    finally:
        if (close := getattr(pieces, "aclose", None)) is not None:
            await close()
