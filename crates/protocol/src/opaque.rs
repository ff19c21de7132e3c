//! `Debug` of what may hold a ticket, a credential or plain text: its name, and nothing of what is in it.

use core::any::type_name;
use core::fmt;

use crate::message::{Event, Head};
use crate::opening::{Opening, SentOpening};
use crate::proof::{CoveredProof, ReceivedProof};
use crate::reply::Part;
use crate::seal::Header;
use crate::signature::ToSign;

macro_rules! opaque {
    ($($type:ty)+) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(type_name::<Self>()).finish_non_exhaustive()
            }
        }
    )+};
}

opaque! { CoveredProof<'_> Event Head Header Opening Part ReceivedProof<'_> SentOpening ToSign }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Control;

    #[test]
    fn nothing_is_shown() {
        let head = Head {
            control: Control::Response(200),
            fields: vec![("authorization".to_owned(), "secret".to_owned())],
        };
        let header = Header {
            salt: [0; 16],
            record_size: 4096,
            keyid: b"secret".to_vec(),
        };
        let content = Event::Content(b"secret".to_vec());
        let part = Part::Content(b"secret".to_vec());
        let shown = format!("{head:?} {header:?} {content:?} {part:?}");
        let full = |name| format!("bulla_protocol::{name} {{ .. }}");
        let names = [
            "message::Head",
            "seal::Header",
            "message::Event",
            "reply::Part",
        ]
        .map(full);
        assert_eq!(shown, names.join(" "));
    }
}
