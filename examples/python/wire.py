"""What comes piece by piece: Binary HTTP (RFC 9292) in records (RFC 8188). No package reads either as it comes."""

import itertools
import secrets
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

RECORD_SIZE = 65536

Fields = list[tuple[str, str]]


class BullaError(Exception):
    """A refusal, the server's or the client's own, by its stable code (Refusals)."""

    def __init__(self, code: str, fields: Fields | None = None, sealed: bool = False) -> None:
        super().__init__(code)
        self.code, self.fields, self.sealed = code, fields or [], sealed


class Reader:
    """Bytes that come in pieces, in such pieces as are asked for."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces, self.held = iter(pieces), b""

    def up_to(self, length: int, least: int) -> bytes:
        """What there is, up to so many bytes: fewer than `least` only at the end."""
        while len(self.held) < least and (piece := next(self.pieces, None)) is not None:
            self.held += piece
        taken, self.held = self.held[:length], self.held[length:]
        return taken

    def exactly(self, length: int, code: str = "reply_invalid") -> bytes:
        if len(taken := self.up_to(length, length)) < length:
            raise BullaError(code)
        return taken

    def number(self, at_end: int | None = None) -> int:
        """An integer of variable length (RFC 9000 section 16), or `at_end` if nothing more comes."""
        first = self.up_to(1, 1)
        if not first and at_end is not None:
            return at_end
        first = first or self.exactly(1)
        rest = self.exactly((1 << (first[0] >> 6)) - 1)
        return int.from_bytes(bytes([first[0] & 0x3F]) + rest, "big")


class Records:
    """The cipher of a message's records (RFC 8188 sections 2.2 and 2.3)."""

    def __init__(self, secret: bytes, salt: bytes) -> None:
        def derive(length: int, what: bytes) -> bytes:
            return HKDF(hashes.SHA256(), length, salt, b"Content-Encoding: " + what + b"\0").derive(secret)

        self.cipher, self.base = AESGCM(derive(16, b"aes128gcm")), int.from_bytes(derive(12, b"nonce"), "big")

    def nonce(self, number: int) -> bytes:
        return (self.base ^ number).to_bytes(12, "big")


def seal(message: bytes, secret: bytes, ticket: bytes) -> bytes:
    """The envelope of a request (Sealed requests)."""
    salt, step = secrets.token_bytes(16), RECORD_SIZE - 17
    records = Records(secret, salt)
    envelope = salt + RECORD_SIZE.to_bytes(4, "big") + bytes([len(ticket)]) + ticket
    for number, start in enumerate(range(0, len(message), step)):
        delimiter = b"\x01" if start + step < len(message) else b"\x02"
        piece = message[start : start + step] + delimiter
        envelope += records.cipher.encrypt(records.nonce(number), piece, None)
    return envelope


def unseal(envelope: Reader, secret: bytes) -> Iterator[bytes]:
    """The records of a reply (Sealed replies), each as soon as it is there."""
    header = envelope.exactly(21, "reply_truncated")
    salt, size, keyid = header[:16], int.from_bytes(header[16:20], "big"), header[20]
    if not 18 <= size <= RECORD_SIZE:
        raise BullaError("reply_broken")
    if keyid:
        raise BullaError("reply_invalid")
    records = Records(secret, salt)
    for number in itertools.count():
        # A rest that is shorter than a delimiter and a tag is none.
        if len(record := envelope.up_to(size, size)) < 17:
            raise BullaError("reply_truncated")
        try:
            opened = records.cipher.decrypt(records.nonce(number), record, None).rstrip(b"\0")
        except InvalidTag as error:
            raise BullaError("reply_broken") from error
        content, delimiter = opened[:-1], opened[-1:]
        final = delimiter == b"\x02"
        if delimiter not in (b"\x01", b"\x02") or final and envelope.up_to(1, 1):
            raise BullaError("reply_broken")
        yield content
        if final:
            return


def encode(method: str, url: str, fields: Fields, body: bytes) -> bytes:
    """A request of known length (RFC 9292 section 3.1), padded to its Padmé length (Sealed requests)."""

    def part(value: bytes) -> bytes:
        return (len(value) | 0x8000_0000).to_bytes(4, "big") + value

    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    message = b"\0" + b"".join(part(text.encode()) for text in (method, scheme, authority, slash + path))
    message += part(b"".join(part(text.encode()) for line in fields for text in line)) + part(body) + b"\0"
    exponent = len(message).bit_length() - 1
    return message + bytes(-len(message) % (1 << (exponent - exponent.bit_length())))


def decode(message: Reader) -> tuple[int, Fields, Iterator[bytes]]:
    """A reply of known or of indeterminate length (RFC 9292 sections 3.1 and 3.2): its status, fields and content."""
    framing, status = message.number(), message.number()
    if framing not in (1, 3) or not 200 <= status <= 599:
        raise BullaError("reply_invalid")
    # A message of known length may leave out what is empty at its end (RFC 9292 section 3.8).
    known = framing == 1
    section = Reader([message.exactly(message.number())]) if known else message
    at_end = 0 if known else None
    fields = []
    while length := section.number(at_end):
        name = section.exactly(length).decode("latin-1")
        fields.append((name, section.exactly(section.number()).decode("latin-1")))

    def content() -> Iterator[bytes]:
        left = message.number(at_end)
        while left:
            piece = message.up_to(left, 1) or message.exactly(1)
            yield piece
            left -= len(piece)
            if not (left or known):
                left = message.number()
        # What is left is the empty trailer section and zeros. The envelope is read to its final record in any case.
        while rest := message.up_to(1 << 16, 1):
            if rest.strip(b"\0"):
                raise BullaError("reply_invalid")

    return status, fields, content()
