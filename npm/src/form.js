// Forms. The platform writes them too, but WebKitGTK does not read one with files back from a request.

/** A form as `multipart/form-data` (HTML standard, section 4.10.21.8; RFC 7578). */
export function encoded(form) {
  const boundary = `----bulla-${crypto.randomUUID()}`;
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
  return new Blob([...parts, `--${boundary}--\r\n`], { type: `multipart/form-data; boundary=${boundary}` });
}
