import { BullaError } from "bulla";
import { type SubmitEvent, useEffect, useState } from "react";
import { useBulla } from "./useBulla";

export function App() {
  const { session, id, authenticated, error } = useBulla();
  const [notes, setNotes] = useState<string[]>([]);
  const [written, setWritten] = useState(0);
  const [trouble, setTrouble] = useState<Error>();

  // Another `id` may be another user's.
  useEffect(() => {
    if (!session || !authenticated) return setNotes([]);
    let isStale = false;
    session
      .fetch("/notes")
      .then((reply) => reply.json())
      .then(
        (notes) => isStale || setNotes(notes),
        (error) => isStale || setTrouble(error),
      );
    return () => {
      isStale = true;
    };
  }, [session, id, authenticated, written]);

  const attempt = async (work: () => Promise<unknown>) => {
    setTrouble(undefined);
    await work().catch(setTrouble);
  };

  const login = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const body = JSON.stringify(Object.fromEntries(new FormData(event.currentTarget)));
    const headers = { "content-type": "application/json" };
    void attempt(async () => session?.fetch("/login", { method: "POST", headers, body }));
  };

  const write = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    void attempt(async () => {
      await session?.fetch("/notes", { method: "POST", body: new FormData(form).get("note") as string });
      form.reset();
      setWritten((count) => count + 1);
    });
  };

  const logout = () => void attempt(async () => session?.fetch("/logout", { method: "POST" }));

  return (
    <>
      {session && !authenticated && (
        <form onSubmit={login}>
          <label>
            Name <input name="name" required />
          </label>
          <button>Log in</button>
        </form>
      )}
      {authenticated && (
        <form onSubmit={write}>
          <label>
            Note <input name="note" required />
          </label>
          <button>Write</button>
          <button type="button" onClick={logout}>
            Log out
          </button>
        </form>
      )}
      <ul>
        {notes.map((note, at) => (
          <li key={at}>{note}</li>
        ))}
      </ul>
      <p role="alert">{said(error ?? trouble)}</p>
    </>
  );
}

function said(error?: Error) {
  return error instanceof BullaError ? `${error.message} (${error.code})` : error?.message;
}
