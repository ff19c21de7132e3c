from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    # Of the tests' own, and apart from the rest.
    path("probe/", include("probe.urls")),
]
