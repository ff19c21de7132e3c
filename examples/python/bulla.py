"""A client of Bulla, written from docs/protocol.md alone. Names in parentheses are sections of that page.

Signatures (RFC 9421) and digests (RFC 9530) are made and checked by `http-message-signatures`, Structured Fields
(RFC 9651) are read by `http_sf`, and `wire.py` has what is inside a seal.
"""

import hashlib
import itertools
import json
import math
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import http_sf
import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from http_message_signatures import ContentDigest, HTTPMessageSigner, HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256, HMAC_SHA256
from http_message_signatures.exceptions import HTTPMessageSignaturesException

from wire import BullaError, Fields, Reader, decode, encode, seal, unseal

__all__ = ["BullaError", "Reply", "Session"]

PREFIX = "/.well-known/bulla"
SEALED = {"content-type": "message/bhttp", "content-encoding": "aes128gcm", "accept-encoding": "identity"}
CURVE = ec.SECP256R1()
MOST_WORK = 20  # bits
MOST_JSON = 4096  # bytes
# What the server's signature of an opening covers (Opening).
OPENED = ['"@status"', '"content-type"', '"content-digest"', '"@method";req', '"@authority";req', '"@path";req']
OPENED += ['"content-digest";req', '"signature";req;key="bulla"', '"signature-input";req;key="bulla"']
# What servers refuse with (Refusals).
CODES = frozenset(
    """malformed too_slow too_large version_unsupported authority_mismatch path_refused field_refused seal_broken
    digest_mismatch seal_required identity_mismatch ticket_invalid ticket_expired proof_missing proof_mismatch
    proof_weak coverage_missing nonce_stale replayed session_unconfirmed session_revoked login_required session_limit
    insufficient_user_authentication work_required rate_limited store_unavailable internal""".split()
)
# Members of JSON that may not stand twice (Notation).
MEMBERS = frozenset(
    """version identity agreement request response mac random ticket nonce_life ticket_life session_life proof nonce
    authenticated kty crv x y code""".split()
)


@dataclass
class Request:
    """What a signature is made of."""

    method: str
    url: str
    headers: dict[str, str]


@dataclass
class Reply:
    """A reply. Its content comes piece by piece; that it is whole is known at its end only, so read to it."""

    status: int
    fields: Fields
    pieces: Iterator[bytes]
    sealed: bool
    close: Callable[[], None]

    def read(self) -> bytes:
        """The rest of the content."""
        try:
            return b"".join(self.pieces)
        finally:
            self.close()

    def check(self) -> None:
        """Raises what the verifier refused with, if this is a refusal of its own, and not the application's answer."""
        kind = (one(self.fields, "content-type") or "").partition(";")[0].strip().lower()
        if self.status >= 400 and kind == "application/problem+json":
            content = Reader(self.pieces)
            start = content.up_to(MOST_JSON + 1, MOST_JSON + 1)
            self.pieces = itertools.chain([start, content.held], content.pieces)
            try:
                code = load(start).get("code")
            except BullaError:
                return
            if code in CODES:
                raise BullaError(code, self.fields, self.sealed)


def b64(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """base64url, in its only spelling (Notation)."""
    value = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64(value) != text:
        raise BullaError("reply_invalid")
    return value


def load(content: bytes) -> dict[str, Any]:
    """An object in JSON, whose members of ours stand once (Notation)."""

    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in members if name in MEMBERS]
        if len(names) != len(set(names)):
            raise ValueError("a member stands twice")
        return dict(members)

    try:
        if len(content) > MOST_JSON:
            raise ValueError("it is too long")
        return dict(json.loads(content, object_pairs_hook=once))
    except (TypeError, ValueError) as error:
        raise BullaError("reply_invalid") from error


def one(fields: Fields, name: str) -> str | None:
    """The value of a field that may stand once."""
    values = [value for other, value in fields if other == name]
    if len(values) > 1:
        raise BullaError("reply_invalid")
    return values[0] if values else None


def item(fields: Fields, name: str, kind: type) -> Any:
    """The value of a Structured Field that is an Item of this kind."""
    if (text := one(fields, name)) is None:
        return None
    try:
        parsed: Any = http_sf.parse(text.encode(), tltype="item")
    except ValueError as error:
        raise BullaError("reply_invalid") from error
    if type(parsed[0]) is not kind:
        raise BullaError("reply_invalid")
    return parsed[0]


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    xy = point(key)[1:]
    return {"crv": "P-256", "kty": "EC", "x": b64(xy[:32]), "y": b64(xy[32:])}


def public_key(of: dict[str, str]) -> ec.EllipticCurvePublicKey:
    """The key of a JWK, if it lies on the curve."""
    x, y = unb64(of["x"]), unb64(of["y"])
    if (of["kty"], of["crv"], len(x), len(y)) != ("EC", "P-256", 32, 32):
        raise BullaError("reply_invalid")
    return ec.EllipticCurvePublicKey.from_encoded_point(CURVE, b"\x04" + x + y)


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638: the members in the order of their names, without spaces."""
    return b64(hashlib.sha256(json.dumps(jwk(key), separators=(",", ":")).encode()).digest())


def sign(request: Request, key: Any, keyid: str, tag: str, nonce: str | None = None) -> bytes:
    """Signs a request with all its fields, by a device key or a session MAC key (Opening, Proofs). Gives the base."""
    algorithm = HMAC_SHA256 if isinstance(key, bytes) else ECDSA_P256_SHA256
    signer = HTTPMessageSigner(signature_algorithm=algorithm)
    covered = ["@method", "@authority", "@path", *(["@query"] if nonce else []), *request.headers]
    given: Any = {"key_id": keyid, "nonce": nonce, "label": "bulla", "tag": tag, "use_existing_digest": True}
    prepared = signer.prepare(request, covered_component_ids=covered, **given)
    signer.apply(request, prepared, algorithm(private_key=key).sign(prepared.signature_base))
    return prepared.signature_base


class Verifier(HTTPMessageVerifier):
    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
        """Neither side relies on `created` (Opening)."""


def solve(device: str, random: bytes, nonce: str, bits: int) -> int:
    """The work that an opening may take (Work)."""
    given = b"bulla work v1\0" + unb64(device) + random + nonce.encode()
    for counter in range(1 << 32):
        digest = hashlib.sha256(given + counter.to_bytes(4, "big")).digest()
        if int.from_bytes(digest, "big") >> (256 - bits) == 0:
            return counter
    raise BullaError("work_required")


class Session:
    """A session with the server at `origin`, by a device key. Without a pin it takes the first identity it meets."""

    def __init__(
        self, origin: str, device: ec.EllipticCurvePrivateKey, pin: str | None = None, http: httpx.Client | None = None
    ) -> None:
        self.origin, self.device, self.identity = origin, device, pin
        self.http = http or httpx.Client(timeout=30)
        self.closed = False
        self.open()

    def open(self, ticket: bytes | None = None) -> None:
        """Opens it, or carries it over to fresh keys with a ticket (Opening, Login)."""
        agreement, random = ec.generate_private_key(CURVE), secrets.token_bytes(32)
        opening: dict[str, Any] = {"version": 1, "random": b64(random)}
        opening |= {"device": jwk(self.device.public_key()), "agreement": jwk(agreement.public_key())}
        opening |= {"identity": self.identity} if self.identity else {}
        opening |= {"ticket": b64(ticket)} if ticket else {}
        try:
            self._open(opening, agreement)
        except BullaError as refusal:
            bits, nonce = item(refusal.fields, "bulla-work", int), item(refusal.fields, "bulla-nonce", str)
            if refusal.code != "work_required" or not bits or not nonce or bits > MOST_WORK:
                raise
            counter = solve(thumbprint(self.device.public_key()), random, nonce, bits)
            self._open(opening | {"work": {"nonce": nonce, "counter": counter}}, agreement)

    def _open(self, opening: dict[str, Any], agreement: ec.EllipticCurvePrivateKey) -> None:
        body = json.dumps(opening).encode()
        headers = {"content-type": "application/json", "content-digest": ContentDigest.create(body)}
        request = Request("POST", f"{self.origin}{PREFIX}/session", headers)
        base = sign(request, self.device, thumbprint(self.device.public_key()), "bulla-open")
        self._checked(request, base, agreement, self._send(request, body))

    def _checked(self, request: Request, base: bytes, agreement: ec.EllipticCurvePrivateKey, reply: Reply) -> None:
        """Takes the session from an answer that is right. All else is a refusal, or `reply_invalid`."""
        try:
            reply.check()
            self._opened(request, base, agreement, reply)
        except BullaError as refusal:
            if refusal.code == "identity_mismatch":
                # The server says itself that it is another one.
                raise BullaError("identity_changed") from refusal
            raise
        except (HTTPMessageSignaturesException, AttributeError, KeyError, TypeError, ValueError) as error:
            raise BullaError("reply_invalid") from error
        finally:
            reply.close()

    def _opened(self, request: Request, base: bytes, agreement: ec.EllipticCurvePrivateKey, reply: Reply) -> None:
        """Checks the server's answer in the order laid down, and derives from it (Opening, Transcript, Keys)."""
        body, fields = Reader(reply.pieces).up_to(MOST_JSON + 1, MOST_JSON + 1), httpx.Headers(reply.fields)
        ContentDigest.verify(fields["content-digest"], body)
        opened = load(body)
        if reply.status != 200 or opened["version"] != 1:
            raise BullaError("reply_invalid")
        identity = public_key(opened["identity"])
        name = thumbprint(identity)
        if name != (self.identity or name):
            raise BullaError("identity_changed")
        theirs = [public_key(opened["agreement"][use]) for use in ("request", "response", "mac")]
        points = [point(key) for key in theirs]
        if len({*points, point(agreement.public_key())}) != 4:
            raise BullaError("reply_invalid")
        answer = SimpleNamespace(status_code=reply.status, headers=fields, request=request)
        keys = MappingKeyResolver(public_keys={name: identity}, private_keys={})
        verifier = Verifier(signature_algorithm=ECDSA_P256_SHA256, key_resolver=keys)
        wanted: Any = {"expect_tag": "bulla-opened", "expect_label": "bulla", "require_components": OPENED}
        verifier.verify(answer, max_age=None, **wanted)

        transcript = hashlib.sha256(b"bulla session v1\0" + len(base).to_bytes(8, "big") + base)
        transcript.update(b"".join(points) + unb64(name) + unb64(opened["random"]))
        salt = transcript.digest()
        self.request_secret, self.response_secret, mac = (agreement.exchange(ec.ECDH(), key) for key in theirs)
        self.mac_key = HKDF(hashes.SHA256(), 32, salt, b"bulla session mac v1").derive(mac)
        self.id, self.identity, self.ticket = b64(salt[:16]), name, unb64(opened["ticket"])
        self.nonce, self.nonce_life = opened["nonce"], int(opened["nonce_life"])
        self.authenticated = opened["authenticated"]
        # Session proofs are taken with a ticket that has come with a reply, if at all. The next one only comes with
        # the reply to a device proof in the second half of a ticket's life.
        self.weakest, self.ticket_life, self.renewed = opened["proof"], int(opened["ticket_life"]), math.inf

    def request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        fields: dict[str, str] | None = None,
        how: str = "sealed",
    ) -> Reply:
        """Sends a request: `sealed`, `visible` (sealed, at its own path) or `signed`. Raises refusals."""
        if self.closed:
            raise BullaError("session_closed")
        random, begun, tried = b64(secrets.token_bytes(16)), (time.monotonic(), time.time()), set()
        while True:
            device = self.weakest == "device" or not 0 <= time.monotonic() - self.renewed <= self.ticket_life / 2
            try:
                return self._request(method, target, body, fields or {}, how, f"{self.nonce}.{random}", device)
            except BullaError as refusal:
                life = max(time.monotonic() - begun[0], abs(time.time() - begun[1]))
                in_time = life < self.nonce_life
                if refusal.code in tried:
                    raise
                tried.add(refusal.code)
                if refusal.code == "session_unconfirmed" and not device and (in_time or refusal.sealed):
                    self.renewed = math.inf
                elif refusal.code == "proof_weak" and not device:
                    self.weakest = "device"
                    if not refusal.sealed:
                        raise
                    random = b64(secrets.token_bytes(16))
                elif not (refusal.code == "nonce_stale" and in_time):
                    raise

    def _request(
        self, method: str, target: str, body: bytes, fields: dict[str, str], how: str, nonce: str, device: bool
    ) -> Reply:
        """Sends a request once (Proofs, Sealed requests, Sealed replies)."""
        fields = {name.lower(): value for name, value in fields.items()}
        fields |= {"content-digest": ContentDigest.create(body), "bulla-ticket": http_sf.ser(self.ticket)}
        request = Request(method, self.origin + target, fields)
        sign(request, self.device if device else self.mac_key, self.id, "bulla", nonce)
        if how == "signed":
            reply = self._send(request, body)
        else:
            # The verifier takes the ticket from the envelope.
            del fields["bulla-ticket"]
            message = encode(method, request.url, [(name.lower(), value) for name, value in fields.items()], body)
            path = f"{PREFIX}/sealed" if how == "sealed" else target.partition("?")[0]
            envelope = Request("POST", self.origin + path, dict(SEALED))
            reply = self._send(envelope, seal(message, self.request_secret, self.ticket))
        try:
            reply = reply if how == "signed" else self._unsealed(reply, nonce)
            self._take(reply.fields)
            reply.check()
        except BaseException:
            reply.close()
            raise
        return reply

    def _unsealed(self, outer: Reply, nonce: str) -> Reply:
        """What is in a sealed reply. In the open there may only be a refusal, and little is believed of it."""
        if outer.status == 200 and one(outer.fields, "content-type") == SEALED["content-type"]:
            status, fields, pieces = decode(Reader(unseal(Reader(outer.pieces), self.response_secret)))
            if [value for name, value in fields if name == "bulla-in-reply-to"] != [http_sf.ser(nonce)]:
                raise BullaError("reply_mismatch")
            return Reply(status, fields, pieces, True, outer.close)
        try:
            outer.check()
        except BullaError as refusal:
            self._take([field for field in refusal.fields if field[0] == "bulla-nonce"])
            raise
        raise BullaError("reply_unsealed")

    def _take(self, fields: Fields) -> None:
        """What comes for the session beside a reply (Sealed replies, Login)."""
        self.nonce = item(fields, "bulla-nonce", str) or self.nonce
        if ticket := item(fields, "bulla-ticket", bytes):
            self.ticket, self.renewed = ticket, time.monotonic()
        if carried := item(fields, "bulla-carry-over", bytes):
            self.open(carried)

    def close(self) -> None:
        """Ends the session, and lets go of it whatever the answer is (Login, renewal, end)."""
        try:
            self.request("DELETE", f"{PREFIX}/session").read()
        finally:
            self.closed = True

    def _send(self, request: Request, body: bytes) -> Reply:
        built = self.http.build_request(request.method, request.url, headers=request.headers, content=body)
        if str(built.url) != request.url:
            # What is signed is sent byte for byte (Proofs).
            raise BullaError("request_invalid")
        try:
            answer = self.http.send(built, stream=True, follow_redirects=False)
        except httpx.TransportError as error:
            raise BullaError("network") from error

        def pieces() -> Iterator[bytes]:
            try:
                yield from answer.iter_bytes()
            except httpx.TransportError as error:
                raise BullaError(cut) from error

        # What is cut off within a seal is told from a server that is not there.
        cut = "reply_truncated" if answer.headers.get("content-type") == SEALED["content-type"] else "network"
        fields = [(name.lower(), value) for name, value in answer.headers.multi_items()]
        return Reply(answer.status_code, fields, pieces(), False, answer.close)
