"""What the admin has no pages for. It takes no part in it: no models, no sessions, no users."""

from django.urls import path

from . import views

urlpatterns = [
    path("echo", views.echo),
    path("chunks", views.chunks),
    path("strict", views.strict),
    path("cookies", views.cookies),
    path("download/<int:length>", views.download),
    path("upload", views.upload),
]
