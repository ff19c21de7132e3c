"""Django's commands for this site, as `django-admin startproject` has them."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "office.settings")
execute_from_command_line(sys.argv)
