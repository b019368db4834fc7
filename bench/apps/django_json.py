"""JSON out of Django."""

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import JsonResponse
from django.urls import path

settings.configure(
    DEBUG=False,
    SECRET_KEY="for measuring",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)
django.setup()


def index(request):
    return JsonResponse({"message": "Hello, World!", "numbers": list(range(10))})


urlpatterns = [path("", index)]
app = WSGIHandler()
