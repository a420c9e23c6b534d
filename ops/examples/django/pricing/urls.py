"""URLs of the application; only what can be a run's id gets as far as a view."""

from django.urls import path, register_converter

from pricing import views


class RunIdConverter:
    """The id of a run in a URL."""

    regex = "[A-Za-z0-9][A-Za-z0-9_-]{0,99}"

    def to_python(self, value: str) -> str:
        """Return it as it is."""
        return value

    to_url = to_python


register_converter(RunIdConverter, "run_id")

urlpatterns = [
    path("", views.home, name="home"),
    path("runs/<run_id:run>/", views.run, name="run"),
    path("runs/<run_id:run>/progress.json", views.progress, name="progress"),
    path("runs/<run_id:run>/cancel/", views.cancel, name="cancel"),
]
