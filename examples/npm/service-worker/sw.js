import { protect } from "/assets/bulla/sw.js";

protect({ paths: ["/login", "/logout", "/notes"] });
