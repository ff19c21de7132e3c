"""Has the client in Python do what the test says, a command per line, over a wire on which somebody sits."""

import copy
import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from http_message_signatures import ContentDigest, HTTPMessageSigner
from http_message_signatures.algorithms import ECDSA_P256_SHA256

import bulla

Act = Callable[["Wire", httpx.Request], httpx.Response]


def answer(like: httpx.Response, content: bytes | Iterator[bytes]) -> httpx.Response:
    """Another content under the same head."""
    framing = ("content-length", "transfer-encoding")
    head = [(name, value) for name, value in like.headers.multi_items() if name not in framing]
    return httpx.Response(like.status_code, headers=head, content=content)


def problem(code: str, status: int, nonce: str, more: dict[str, str] | None = None) -> httpx.Response:
    head = {"content-type": "application/problem+json", "bulla-nonce": f'"{nonce}"', **(more or {})}
    return httpx.Response(status, headers=head, content=json.dumps({"status": status, "code": code}))


class Wire(httpx.BaseTransport):
    """A network, and who sits on it: `act` is done with the next request, and only with that."""

    def __init__(self) -> None:
        self.network = httpx.HTTPTransport()
        self.act: Act | None = None
        self.held: httpx.Response | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        act, self.act = self.act, None
        return act(self, request) if act else self.network.handle_request(request)

    def whole(self, request: httpx.Request, body: bytes | None = None) -> httpx.Response:
        """Sends a request, with another body if it is given, and reads the answer."""
        sent = request.read() if body is None else body
        passed = httpx.Request(request.method, request.url, headers=request.headers, content=sent)
        response = self.network.handle_request(passed)
        return answer(response, b"".join(response.stream))


def again(wire: Wire, request: httpx.Request) -> httpx.Response:
    wire.whole(request)
    return wire.whole(request)


def alter_body(wire: Wire, request: httpx.Request) -> httpx.Response:
    """One bit, in the last digit of what is sent: an amount of 7 becomes one of 6."""
    body = bytearray(request.read())
    body[-2] ^= 1
    return wire.whole(request, bytes(body))


def alter_reply(wire: Wire, request: httpx.Request) -> httpx.Response:
    response = wire.whole(request)
    content = bytearray(response.content)
    content[-2] ^= 1
    return answer(response, bytes(content))


def lengthen(wire: Wire, request: httpx.Request) -> httpx.Response:
    response = wire.whole(request)
    return answer(response, response.content + bytes(17))


def last_record(sealed: bytes) -> int:
    """Where it begins."""
    size = int.from_bytes(sealed[16:20], "big")
    return len(sealed) - ((len(sealed) - 21) % size or size)


def truncate(wire: Wire, request: httpx.Request) -> httpx.Response:
    """Without its last record, or what there is in its place where nothing is sealed: the last event."""
    response = wire.whole(request)
    content, kind = response.content, response.headers["content-type"]
    end = last_record(content) if kind == "message/bhttp" else content.rindex(b"data:")
    return answer(response, content[:end])


def cut(wire: Wire, request: httpx.Request) -> httpx.Response:
    """The connection is lost before the last record."""
    response = wire.whole(request)

    def pieces() -> Iterator[bytes]:
        yield response.content[: last_record(response.content)]
        raise httpx.ReadError("the connection is lost")

    return answer(response, pieces())


def hold(wire: Wire, request: httpx.Request) -> httpx.Response:
    wire.held = wire.whole(request)
    return answer(wire.held, wire.held.content)


def swap(wire: Wire, request: httpx.Request) -> httpx.Response:
    """Answers with what was held."""
    wire.whole(request)
    assert wire.held
    return wire.held


def plain(wire: Wire, request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"number": 1})


def stale(wire: Wire, request: httpx.Request) -> httpx.Response:
    """Has the request carried out, and says that it was not."""
    wire.whole(request)
    return problem("nonce_stale", 401, session().nonce)


def labour(wire: Wire, request: httpx.Request) -> httpx.Response:
    """Asks for more work than anybody has to do."""
    return problem("work_required", 429, "any", {"bulla-work": "21"})


def another_random(wire: Wire, request: httpx.Request) -> httpx.Response:
    """The answer to an opening, with a right digest and another value in it."""
    response = wire.whole(request)
    content = json.dumps({**response.json(), "random": bulla.b64(bytes(32))}).encode()
    response.headers["content-digest"] = ContentDigest.create(content)
    return answer(response, content)


def another_identity(wire: Wire, request: httpx.Request) -> httpx.Response:
    """The answer to an opening, signed anew and rightly, by an identity of its own."""
    response = wire.whole(request)
    key = ec.generate_private_key(bulla.CURVE)
    content = json.dumps({**response.json(), "identity": bulla.jwk(key.public_key())}).encode()
    signed = SimpleNamespace(
        status_code=200,
        headers={"content-type": "application/json", "content-digest": ContentDigest.create(content)},
        request=request,
    )
    signer = HTTPMessageSigner(signature_algorithm=ECDSA_P256_SHA256)
    name = bulla.thumbprint(key.public_key())
    given: Any = {"key_id": name, "label": "bulla", "tag": "bulla-opened", "use_existing_digest": True}
    prepared = signer.prepare(signed, covered_component_ids=bulla.OPENED, **given)
    signer.apply(signed, prepared, ECDSA_P256_SHA256(private_key=key).sign(prepared.signature_base))
    return httpx.Response(200, headers=signed.headers, content=content)


ACTS: dict[str, Act] = {
    act.__name__: act
    for act in (again, alter_body, alter_reply, lengthen, truncate, cut, hold, swap, plain, stale, labour)
    + (another_random, another_identity)
}

WIRE = Wire()
HTTP = httpx.Client(transport=WIRE, timeout=60)
SESSIONS: dict[str, bulla.Session] = {}
OPEN: list[bulla.Reply] = []


def session(name: str = "ann") -> bulla.Session:
    return SESSIONS[name]


def about(name: str) -> dict[str, object]:
    at = session(name)
    return {
        "id": at.id,
        "identity": at.identity,
        "device": bulla.thumbprint(at.device.public_key()),
        "authenticated": at.authenticated,
        "nonce": at.nonce,
    }


def whole(status: int, fields: list[list[str]], body: bytes) -> bulla.Reply:
    return bulla.Reply(status, [(name, value) for name, value in fields], iter([body]), False, lambda: None)


def client(given: dict[str, Any]) -> dict[str, object]:
    """The step of the vectors: a reply is read."""
    at = bulla.Session.__new__(bulla.Session)
    at.response_secret, at.nonce = bulla.unb64(given["response_key"]), ""
    told = given["reply"]
    reply = at._unsealed(whole(told["status"], told["fields"], bulla.unb64(told["body"])), given["nonce"])
    reply.check()
    return {"status": reply.status, "content": bulla.b64(reply.read())}


def opened(given: dict[str, Any]) -> dict[str, object]:
    """The step of the vectors: the opening is made as it was made there, and the answer to it read."""
    sent = given["request"]
    device, agreement = (
        ec.derive_private_key(int.from_bytes(bulla.unb64(sent[name]["d"]), "big"), bulla.CURVE)
        for name in ("device", "agreement")
    )
    keys = {
        name: {member: sent[name][member] for member in ("kty", "crv", "x", "y")} for name in ("device", "agreement")
    }
    body = json.dumps({"version": 1, **keys, **sent["open"]}, separators=(",", ":")).encode()
    headers = {"content-type": "application/json", "content-digest": ContentDigest.create(body)}
    request = bulla.Request("POST", f"https://{sent['authority']}{bulla.PREFIX}/session", headers)
    signer = HTTPMessageSigner(signature_algorithm=ECDSA_P256_SHA256)
    prepared = signer.prepare(
        request,
        key_id=bulla.thumbprint(device.public_key()),
        created=datetime.fromtimestamp(sent["created"]),
        label="bulla",
        tag="bulla-open",
        covered_component_ids=["@method", "@authority", "@path", *headers],
        use_existing_digest=True,
    )
    # The same each time (RFC 6979).
    der = device.sign(prepared.signature_base, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    signer.apply(request, prepared, ECDSA_P256_SHA256.signature_from_der(der))
    at = bulla.Session.__new__(bulla.Session)
    at.identity = sent["open"].get("identity")
    reply = whole(given["status"], given["fields"], given["body"].encode())
    at._checked(request, prepared.signature_base, agreement, reply)
    return {"session": at.id, "ticket": bulla.b64(at.ticket), "nonce": at.nonce}


def do(command: str, name: str = "ann", **given: Any) -> object:
    if command in ("client", "opened"):
        return (client if command == "client" else opened)(given["given"])
    if command == "open":
        device = ec.generate_private_key(bulla.CURVE)
        SESSIONS[name] = bulla.Session(given["origin"], device, given.get("identity"), HTTP)
        return about(name)
    if command == "about":
        return about(name)
    if command == "steal":
        # All that is in a session but the device key.
        SESSIONS["thief"] = copy.copy(session(name))
        SESSIONS["thief"].device = ec.generate_private_key(bulla.CURVE)
        return None
    if command == "carry_over":
        session(name).open(session(name).ticket)
        return about(name)
    if command == "close":
        return session(name).close()
    if command == "leave":
        return OPEN.pop().close()
    body = json.dumps(given["body"]).encode() if "body" in given else b""
    fields = {"Content-Type": "application/json"} if body else {}
    if command == "unprotected":
        return HTTP.request(given["method"], given["url"], content=body, headers={**fields, **given["fields"]}).text
    reply = session(name).request(given["method"], given["target"], body, fields, given.get("how", "sealed"))
    if "take" in given:
        OPEN.append(reply)
        return [next(reply.pieces).decode() for _ in range(given["take"])]
    if "each" in given:
        # As an application does that hands on what it has.
        pieces: list[str] = []
        try:
            pieces.extend(piece.decode() for piece in reply.pieces)
        except bulla.BullaError as refusal:
            return [*pieces, refusal.code]
        return pieces
    return {"status": reply.status, "sealed": reply.sealed, "body": reply.read().decode()}


for line in sys.stdin:
    told = json.loads(line)
    WIRE.act = ACTS[told.pop("act")] if "act" in told else None
    try:
        said = {"done": do(**told)}
    except bulla.BullaError as refusal:
        said = {"refused": refusal.code, "sealed": refusal.sealed}
    print(json.dumps(said), flush=True)
