"""What Django's reports of errors leave out: its debug page, and mails to ADMINS."""

from __future__ import annotations

import re

from django.views.debug import SafeExceptionReporterFilter

OURS = "CHANNELS|REDIS_URL|BROKER_URL|DATABASE_URL"


class HidesAddresses(SafeExceptionReporterFilter):
    """Hides, besides what Django hides by its name, the settings whose addresses hold secrets."""

    hidden_settings = re.compile(
        f"{SafeExceptionReporterFilter.hidden_settings.pattern}|{OURS}", re.IGNORECASE
    )
