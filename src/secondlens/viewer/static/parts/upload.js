// A picture to the server and its answer back.

import { DataError, reason, site } from "../data.js";

export const TYPES = ["image/jpeg", "image/png", "image/webp"];

/** POST a file as the request's body; the server's reason where it refuses. */
export async function post(address, file) {
  if (!TYPES.includes(file.type)) throw new DataError("This is no JPEG, PNG or WebP picture.");
  if (file.size > site.served.max_bytes) throw new DataError("The file is too large.");
  let response;
  try {
    response = await fetch(address, { method: "POST", body: file, headers: { "content-type": file.type } });
  } catch {
    throw new DataError("The server could not be reached. Is it still running?");
  }
  if (!response.ok) throw new DataError(await reason(response, address));
  return response.json();
}
