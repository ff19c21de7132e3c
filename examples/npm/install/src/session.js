import { open } from "bulla";
import { install } from "bulla/install";

export const session = await open({ server: location.origin });

install(session, { paths: ["/login", "/notes"] });
