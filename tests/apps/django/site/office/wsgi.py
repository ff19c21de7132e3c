import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "office.settings")

# It serves the admin's styles and scripts too, as `runserver` does: nobody else is there to do it.
application = StaticFilesHandler(get_wsgi_application())
