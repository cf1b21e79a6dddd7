"""Several things at once."""

import threading

from pg import SqlError


def run_together(*works):
    """Runs each work (a function and its arguments) in a thread; what went wrong in them, as texts."""
    errors = []

    def guarded(work, *args):
        try:
            work(*args)
        except (SqlError, TimeoutError) as error:
            errors.append(f"{work.__name__} {args}: {error}")

    threads = [threading.Thread(target=guarded, args=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
