import { protect } from "/npm/sw.js";

protect({ paths: ["/api/"] });
