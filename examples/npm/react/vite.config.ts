import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// While developing, Vite stands before the API, which has to know itself by Vite's name and sees it in `Host`.
const api = { target: "http://localhost:8080", changeOrigin: false };

export default defineConfig({
  plugins: [react()],
  server: { proxy: { "/.well-known/bulla": api } },
});
