"""Settings from the environment, safe unless it says otherwise; see README.md for the variables."""

import os

from django.core.exceptions import ImproperlyConfigured

try:
    SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]
except KeyError:
    raise ImproperlyConfigured(
        "DJANGO_SECRET_KEY is not set; make one, keep it, and give it to every process: "
        "python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    ) from None

DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

# Set it where the site is reached by https, so that browsers send cookies over nothing else.
HTTPS = os.environ.get("DJANGO_HTTPS") == "1"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None

MONTEMQ_PASSWORD_FILE = os.environ.get("MONTEMQ_PASSWORD_FILE")
MONTEMQ_POOL = os.environ.get("MONTEMQ_POOL", "default")

# montemq keeps the runs; a visitor's cookie keeps, signed, which of them are theirs.
DATABASES: dict[str, dict[str, str]] = {}
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"

INSTALLED_APPS = ["django.contrib.sessions", "pricing"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "pricing.middleware.Unavailable",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
ROOT_URLCONF = "pricing_site.urls"
WSGI_APPLICATION = "pricing_site.wsgi.application"
TIME_ZONE = "UTC"
USE_I18N = False
USE_THOUSAND_SEPARATOR = False
