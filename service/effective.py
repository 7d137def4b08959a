"""`python -m service.effective`: the settings in force, as JSON and without what is secret, for `impasto doctor`."""

import json
import sys

from service.settings import Settings, SettingsError


def main() -> int:
    """Writes the settings. Returns the exit status: 1 with a sentence on standard error if one cannot be used."""
    try:
        settings = Settings.load()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    fields = settings.model_dump(mode="json")
    # A URL may hold a password; `SecretStr` hides itself.
    fields["redis_url"] = "set" if settings.redis_url else None
    sys.stdout.write(json.dumps(fields))
    return 0


if __name__ == "__main__":
    sys.exit(main())
