/** What the bundler makes of the module: its bytes, in base64. */
declare module "*.wasm" {
  const text: string;
  export default text;
}
