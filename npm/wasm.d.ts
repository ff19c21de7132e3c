/** Where the module is, as the bundler has it. */
declare const url: string;
export default url;
