"""URLs of the site: all of them are the application's."""

from django.urls import include, path

urlpatterns = [path("", include("pricing.urls"))]
