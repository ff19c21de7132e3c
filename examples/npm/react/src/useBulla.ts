import { open, type Session } from "bulla";
import { useCallback, useEffect, useState, useSyncExternalStore } from "react";

/** A session with this server, or with the page's own: itself once it is open, how it stands, and why there is none. */
export function useBulla(server?: string) {
  const [session, setSession] = useState<Session>();
  const [error, setError] = useState<Error>();

  useEffect(() => {
    let isGone = false;
    // Here, and not above: this does not run where pages are rendered on a server.
    open({ server: server ?? location.origin }).then(
      (session) => isGone || setSession(session),
      (error) => isGone || setError(error),
    );
    // Not ended: what comes next, as it does at once under StrictMode, goes on with the same one.
    return () => {
      isGone = true;
    };
  }, [server]);

  // By this page or by another tab.
  const onChange = useCallback((listener: () => void) => session?.on("change", listener) ?? (() => {}), [session]);
  const id = useSyncExternalStore(onChange, () => session?.id ?? null, () => null);
  const authenticated = useSyncExternalStore(onChange, () => session?.authenticated ?? false, () => false);

  return { session, id, authenticated, error };
}
