"""Django's and Celery's settings: one file, driven by the environment, complete without any.

Two ways to run: embedded, on http://127.0.0.1, with all state in `var/`; and distributed, which
starts with naming the hosts in `DJANGO_ALLOWED_HOSTS` and from then on expects HTTPS in front.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import environ
from django.templatetags.static import static

from config import env as installation
from config import env_check

env_check.check()
env = environ.Env()

BASE_DIR = installation.BASE_DIR
VAR_DIR = installation.var_dir()

# --- Security -------------------------------------------------------------------------------------

SECRET_KEY = installation.secret_key()
DEBUG = env.bool("DJANGO_DEBUG", default=False)
ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

# Embedded, nothing answers at https://127.0.0.1 and a secure cookie never comes back: log-in works
# only without these. `DJANGO_HTTPS` decides where the guess is wrong.
HTTPS = env.bool("DJANGO_HTTPS", default=bool(env.str("DJANGO_ALLOWED_HOSTS", default="")))
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = int(timedelta(days=365).total_seconds()) if HTTPS else 0
# Probes come from inside, without the proxy.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^metrics$"]
# Distributed, the web processes must be reachable only through a proxy that sets this header and
# removes a client's own.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
CSRF_TRUSTED_ORIGINS = env.list("DJANGO_CSRF_TRUSTED_ORIGINS", default=[])
# Subdomains and the browsers' preload list are the domain owner's to decide, not one service's.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
# Cookies ignore the port: without names of their own, two installations on one host would log each
# other out.
SESSION_COOKIE_NAME = f"beatkeeper_session_{installation.installation_id()}"
CSRF_COOKIE_NAME = f"beatkeeper_csrf_{installation.installation_id()}"

# --- Application ----------------------------------------------------------------------------------

INSTALLED_APPS = [
    "config.apps.ProjectConfig",  # first: the others' ready() may ask for the Celery app
    "unfold",  # unfold replaces the admin's templates, so it comes before it
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "scheduling.apps.SchedulingConfig",
    "workers.apps.WorkersConfig",
    "examples.uptime.apps.UptimeConfig",
]
# The example watches this installation; behind a proxy that may not be possible from inside.
UPTIME_WATCH_SELF = env.bool("UPTIME_WATCH_SELF", default=not HTTPS)
UPTIME_ENDPOINTS = env.str("UPTIME_ENDPOINTS", default="")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/admin/"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

LANGUAGE_CODE = "en-gb"
USE_TZ = True
TIME_ZONE = "UTC"

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Beatkeeper",
    "SITE_HEADER": "Beatkeeper",
    # --- the admin's own part: DASHBOARD_CALLBACK, SIDEBAR, STYLES ---
    "SITE_SYMBOL": "schedule",
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("scheduling/favicon.svg"),
        }
    ],
    "DASHBOARD_CALLBACK": "scheduling.admin.home.dashboard",
    "STYLES": [lambda request: static("scheduling/admin.css")],
    "SIDEBAR": {"navigation": "scheduling.admin.sidebar.navigation"},
}

# --- Database -------------------------------------------------------------------------------------

# Measured with eight processes writing at once: a deferred transaction that turns into a writer
# fails with "database is locked" whatever the timeout; with WAL and IMMEDIATE none did.
SQLITE_OPTIONS = {
    "timeout": 20,
    "transaction_mode": "IMMEDIATE",
    "init_command": (
        "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA temp_store=MEMORY;"
        "PRAGMA mmap_size=134217728;PRAGMA journal_size_limit=27103364;PRAGMA cache_size=2000;"
    ),
}
# All must notice soon that the database's machine is gone, not after TCP's minutes or hours.
POSTGRES_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

DATABASES: dict[str, dict[str, Any]] = {"default": env.db_url_config(installation.database_url())}
DATABASES["default"] |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
DATABASES["default"]["OPTIONS"] = {
    **(SQLITE_OPTIONS if DATABASES["default"]["ENGINE"].endswith("sqlite3") else POSTGRES_OPTIONS),
    **DATABASES["default"].get("OPTIONS", {}),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Addresses, Redis and Celery ------------------------------------------------------------------

# Who is told of failures of jobs without recipients of their own: a@example.org,b@example.org
JOBS_NOTIFY = tuple(env.list("JOBS_NOTIFY", default=[]))
# Where to tell people besides mail: lines `name=address`, or a JSON object.
JOBS_CHANNELS = installation.channels()
# Reports of errors show the settings, but no address with a secret in it.
DEFAULT_EXCEPTION_REPORTER_FILTER = "scheduling.reports.HidesAddresses"
# Lets a Prometheus read /metrics; empty: staff and this machine only.
JOBS_METRICS_TOKEN = env.str("JOBS_METRICS_TOKEN", default="")
# Where beats keep checkpoints, outside of the database; the embedded Valkey keeps nothing on disk.
JOBS_SNAPSHOT = env.str(
    "JOBS_SNAPSHOT",
    default=str(VAR_DIR / "checkpoint.json") if installation.is_broker_embedded() else "redis",
)

# Where people find both; Flower's log-in leads to the admin, the admin links to Flower.
WEB_URL = installation.web_url()
FLOWER_URL = installation.flower_url()
# Links in mails begin with it.
JOBS_SITE_URL = env.str("JOBS_SITE_URL", default=WEB_URL)

REDIS_URL = installation.redis_url()

CELERY_BROKER_URL = installation.celery_broker_url()
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # for ever: no outage needs a restart by hand
# Redis hands out an unacknowledged message again after this long: more than the longest hard limit.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": int(timedelta(hours=24).total_seconds()),
    # A broker that is frozen or cut off must not hold up a beat for ever.
    "socket_connect_timeout": 5,
    "socket_timeout": 30,
    "socket_keepalive": True,
}

# In Redis 0 comes first. Tasks without a priority come last, with the runs that have no lane.
CELERY_TASK_DEFAULT_PRIORITY = 9 if CELERY_BROKER_URL.startswith(("redis", "sentinel")) else None

CELERY_BEAT_SCHEDULER = "scheduling.beat:Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 1

CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_RESULT_BACKEND = None  # the Run rows are the history
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = (
    False  # recovery is by lease, in the database; a second delivery would only be refused
)
CELERY_TIMEZONE = TIME_ZONE
# Celery closes the database connection around every task, whatever CONN_MAX_AGE says, unless this
# old key is set: 2.7 times the throughput. In exchange config.celery drops a dead one.
CELERY_DB_REUSE_MAX = 1000

CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Nor one more for each process: it would wait here behind a long job, beside an idle worker.
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Flower shows what it hears.
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SEND_SENT_EVENT = True

# --- Mail and logging -----------------------------------------------------------------------------

vars().update(env.email_url_config(installation.email_url()))  # EMAIL_BACKEND, EMAIL_HOST ...
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str("DJANGO_FROM_EMAIL", default="beatkeeper@localhost")

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "format": "{asctime} {levelname} {name}: {message}",
            "datefmt": "%Y-%m-%dT%H:%M:%S%z",
            "style": "{",
        },
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": installation.log_level()},
}
