import hashlib

from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

BLOCK = 64 * 1024


@csrf_exempt
def echo(request):
    """The request as it came: its method, its target, its fields, and the names and values of its cookies."""
    return JsonResponse(
        {
            "method": request.method,
            "target": request.get_full_path(),
            "fields": {name.lower(): value for name, value in request.headers.items()},
            "cookies": request.COOKIES,
            "body": request.body.decode(errors="replace"),
        }
    )


def chunks(request):
    """Ten chunks, each a line."""
    lines = (f"chunk {number}\n" for number in range(10))
    return StreamingHttpResponse(lines, content_type="text/plain")


def strict(request):
    """Sets a cookie that no other site's links may carry."""
    response = HttpResponse("set\n", content_type="text/plain")
    response.set_cookie("strict", "clay", httponly=True, samesite="Strict")
    return response


def cookies(request):
    """The names of the cookies that have come, one to a line."""
    return HttpResponse("".join(f"{name}\n" for name in sorted(request.COOKIES)), content_type="text/plain")


def download(request, length):
    """So many bytes, the same ones each time, never all of them in memory."""
    block = bytes(range(256)) * (BLOCK // 256)

    def blocks():
        left = length
        while left > 0:
            yield block[:left]
            left -= BLOCK

    response = StreamingHttpResponse(blocks(), content_type="application/octet-stream")
    response["Content-Length"] = length
    return response


@csrf_exempt
def upload(request):
    """How long the body is, and its SHA-256. Django reads none of which no length was said."""
    digest = hashlib.sha256()
    length = 0
    while block := request.read(BLOCK):
        digest.update(block)
        length += len(block)
    return JsonResponse({"length": length, "sha256": digest.hexdigest()})
