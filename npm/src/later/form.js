// Forms with files, for WebKit, which does not read one back from a request that it has made.

/**
 * A form as `multipart/form-data` (HTML standard, section 4.10.21.8; RFC 7578).
 * @param {[string, FormDataEntryValue][]} form
 * @param {string | null} type What the request says that its body is.
 */
export function encoded(form, type) {
  const [, boundary = ""] = /boundary=(.*)/.exec(type ?? "") ?? [];
  const lines = (text) => text.replace(/\r\n?|\n/g, "\r\n");
  const quoted = (text) => `"${text.replace(/\n/g, "%0A").replace(/\r/g, "%0D").replace(/"/g, "%22")}"`;
  const parts = [];
  for (const [name, value] of form) {
    parts.push(`--${boundary}\r\nContent-Disposition: form-data; name=${quoted(lines(name))}`);
    if (typeof value === "string") parts.push(`\r\n\r\n${lines(value)}\r\n`);
    else {
      const type = value.type || "application/octet-stream";
      parts.push(`; filename=${quoted(value.name)}\r\nContent-Type: ${type}\r\n\r\n`, value, "\r\n");
    }
  }
  return new Blob([...parts, `--${boundary}--\r\n`]);
}
