//! Access tokens of the application's own, stolen by somebody who has a device and a session too.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bulla_protocol::error::Code;
use bulla_protocol::proof::ProofKind;
use bulla_server::{Confirmation, Refused, SecurityEvent, Session};
use http::{Request, Response};
use tower::{Layer as _, service_fn};

use crate::support::{Device, Server, answer, app, code, erase};

const TOKEN: &str = "Bearer 9f2c";

#[tokio::test]
async fn a_bound_token_is_worth_nothing_on_another_device() {
    let events: Arc<Mutex<Vec<SecurityEvent>>> = Arc::default();
    let listener = Arc::clone(&events);
    let server = Server::around(
        |builder| builder.on_event(move |event| listener.lock().unwrap().push(event.clone())),
        |bulla| {
            // What the issuer has written down of its one token.
            let issued: Arc<Mutex<Option<Confirmation>>> = Arc::default();
            let handler = service_fn(move |request: Request<bulla_server::Body>| {
                let issued = Arc::clone(&issued);
                async move {
                    let session: &Session = request.extensions().get().unwrap();
                    if request.uri().path() == "/token" {
                        *issued.lock().unwrap() = Some(session.confirmation());
                        return Ok::<_, Infallible>(answer(200, TOKEN));
                    }
                    if request.headers()["authorization"] != TOKEN {
                        return Ok(answer(401, "no such token"));
                    }
                    let confirmation = issued.lock().unwrap().unwrap();
                    let is_bound = request.uri().path() == "/bound";
                    match session.confirm(&confirmation) {
                        Err(refused) if is_bound => Ok(erase(Response::from(Refused(refused)))),
                        _ => Ok(answer(200, "secret")),
                    }
                }
            });
            app(bulla.layer().layer(handler))
        },
    );
    let (victim, thief) = (Device::new(), Device::new());
    let hers = victim.open(&server, None).await.unwrap();
    let his = thief.open(&server, None).await.unwrap();
    let token = hers.signed(&victim, ProofKind::Device, ("POST", "/token"), b"");
    assert_eq!(server.send(token).await.body(), TOKEN);
    for (device, client, path, refused) in [
        (&victim, &hers, "/bound", None),
        (&victim, &hers, "/unbound", None),
        // A bearer token, as ever.
        (&thief, &his, "/unbound", None),
        (&thief, &his, "/bound", Some(Code::ProofMismatch)),
    ] {
        let stolen = [("authorization", TOKEN)];
        let request = client.signed_with(device, ProofKind::Device, ("GET", path), b"", &stolen);
        let reply = server.send(request).await;
        assert_eq!(code(&reply), refused, "{path}");
        assert_eq!(reply.body() == "secret", refused.is_none(), "{path}");
        let reported = std::mem::take(&mut *events.lock().unwrap());
        let reported = reported.iter();
        let codes: Vec<_> = reported.filter_map(|event| event.kind.code()).collect();
        assert_eq!(codes, Vec::from_iter(refused), "{path}");
    }
}
