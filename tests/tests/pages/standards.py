"""What others have written of the standards in Python, under the vectors; and messages that they make, as vectors for
ours. Prints both, as JSON."""

import json
import secrets
import sys
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256, HMAC_SHA256

Given = dict[str, Any]
ALGORITHMS: dict[str, Any] = {"device": ECDSA_P256_SHA256, "session": HMAC_SHA256}


def unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def b64(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def unseal(given: Given) -> Given:
    """RFC 8188, by http_ece."""
    sealed = unb64(given["sealed"])
    # It takes a key id for text, which ours is not: it is left out. Nothing that is sealed depends on it.
    sealed = sealed[:20] + b"\0" + sealed[21 + sealed[20] :]
    return {"plain": b64(http_ece.decrypt(sealed, key=unb64(given["key"]), version="aes128gcm"))}


class Verifier(HTTPMessageVerifier):
    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
        """It relies on times, which a vector's are not."""


def message(given: Given) -> SimpleNamespace:
    headers: dict[str, str] = {}
    for name, value in given["fields"]:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return SimpleNamespace(
        method=given["method"], url=f"https://{given['authority']}{given['target']}", headers=headers
    )


class Keys(MappingKeyResolver):
    """The one key that there is, whatever its name."""

    def __init__(self, key: Any) -> None:
        super().__init__(public_keys={}, private_keys={})
        self.key = key

    def resolve_public_key(self, key_id: str) -> Any:
        return self.key

    resolve_private_key = resolve_public_key


def proof_received(given: Given) -> Given:
    """RFC 9421, by http-message-signatures."""
    request = message(given)
    kind = "session" if "hmac-sha256" in request.headers["signature-input"] else "device"
    if kind == "session":
        key: Any = unb64(given["mac_key"])
    else:
        point = b"\4" + unb64(given["device"]["x"]) + unb64(given["device"]["y"])
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    verifier = Verifier(signature_algorithm=ALGORITHMS[kind], key_resolver=Keys(key))
    [result] = verifier.verify(request, max_age=None, expect_tag="bulla", expect_label="bulla")
    covered = [name.strip('"') for name in result.covered_components]
    parameters = result.parameters
    return {
        "proof": kind,
        "session": parameters["keyid"],
        "nonce": parameters["nonce"],
        "covered": [name for name in covered if not name.startswith("@")],
    }


READ = {"unseal": unseal, "proof-received": proof_received}


def told(folder: Path) -> Given:
    """Which vectors they read as ours do, which they refuse, and which they read as something else, by name."""
    lists: Given = {step: {"read": [], "refused": [], "otherwise": []} for step in READ}
    for file in ("proofs", "sealing"):
        for vector in json.loads((folder / f"{file}.json").read_text()):
            if (step := vector["step"]) not in READ:
                continue
            try:
                read = READ[step](vector["in"])
            except Exception:  # they raise whatever they stumble over
                lists[step]["refused"].append(vector["name"])
                continue
            out = vector.get("out")
            agrees = out and all(out[member] == value for member, value in read.items())
            lists[step]["read" if agrees else "otherwise"].append(vector["name"])
    return lists


def flip(given: bytes, at: int) -> bytes:
    changed = bytearray(given)
    changed[at] ^= 1
    return bytes(changed)


def sealed_bodies() -> list[Given]:
    made = []
    for length, size in ((1, 18), (1000, 100), (4096, 4096), (200_000, 65_536)):
        key, plain, keyid = secrets.token_bytes(32), secrets.token_bytes(length), secrets.token_hex(100)
        sealed = http_ece.encrypt(plain, key=key, keyid=keyid, rs=size, version="aes128gcm")
        head = 21 + len(keyid)
        out = {"keyid": b64(keyid.encode()), "plain": b64(plain)}
        of = {"name": f"{length} bytes by {size}", "step": "unseal"}
        made.append({**of, "in": {"key": b64(key), "sealed": b64(sealed)}, "out": out})
        # The salt, the first record and the last one; and without the last one.
        altered = [flip(sealed, at) for at in (0, head, len(sealed) - 1)]
        altered.append(sealed[: len(sealed) - ((len(sealed) - head) % size or size)])
        for wrong in altered:
            made.append({**of, "in": {"key": b64(key), "sealed": b64(wrong)}, "code": "seal_broken"})
    return made


def proofs() -> list[Given]:
    made = []
    device, secret = ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(32)
    point = device.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    jwk = {"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
    fields = {
        "content-digest": "sha-256=:WNdexcV4C3cbr+9obwQ2ZI/Wrv3O7a2vSvGWRUizTXg=:",
        "bulla-ticket": f":{b64encode(secrets.token_bytes(200)).decode()}:",
        "content-type": "application/json",
    }
    for proof, key in (("device", device), ("session", secret)):
        given = {"method": "POST", "authority": "bank.example", "target": "/api/transfer?dry=1"}
        request = message({**given, "fields": fields.items()})
        session, nonce = b64(secrets.token_bytes(16)), f"server.nonce.{b64(secrets.token_bytes(16))}"
        signer = HTTPMessageSigner(signature_algorithm=ALGORITHMS[proof], key_resolver=Keys(key))
        covered = ("@method", "@authority", "@path", "@query", *fields)
        parameters: Given = {"key_id": session, "nonce": nonce, "label": "bulla", "tag": "bulla"}
        signer.sign(request, covered_component_ids=covered, use_existing_digest=True, **parameters)
        sent = [[name.lower(), value] for name, value in request.headers.items()]
        right = {"binding": "digest", "device": jwk, "mac_key": b64(secret), **given, "fields": sent}
        out = {"proof": proof, "session": session, "nonce": nonce, "covered": [*fields]}
        made.append({"name": f"a {proof} proof", "step": "proof-received", "in": right, "out": out})
        other = [[name, "text/plain" if name == "content-type" else value] for name, value in sent]
        for member, value in (
            ("method", "PUT"),
            ("authority", "bank.example:444"),
            ("target", "/api/transfer?dry=0"),
            ("fields", other),
        ):
            name = f"a {proof} proof, another {member}"
            wrong = {"name": name, "step": "proof-received", "in": {**right, member: value}}
            made.append({**wrong, "code": "proof_mismatch"})
    return made


print(json.dumps({"told": told(Path(sys.argv[1])), "made": sealed_bodies() + proofs()}))
