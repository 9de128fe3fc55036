# An OAuth 2.0 server and a resource behind it, by oauthlib's own endpoints: what is checked here is checked by a library
# that knows nothing of ours. Usage: oauth_server.py LIFE_SECONDS; prints its port. Client "gw 1", secret "ses&me", first
# refresh token "r-0"; each refresh token is good once, a second use ends everything (RFC 9700, section 4.14).

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote
import base64

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"

from oauthlib.oauth2 import BearerToken, ClientCredentialsGrant, RefreshTokenGrant, RequestValidator  # noqa: E402
from oauthlib.oauth2 import ResourceEndpoint, TokenEndpoint  # noqa: E402

CLIENT, SECRET = "gw 1", "ses&me"


class Client:
    client_id = CLIENT


class Validator(RequestValidator):
    def __init__(self, life):
        self.life, self.access, self.refresh, self.burnt = life, {}, {"r-0"}, set()

    def authenticate_client(self, request, *args, **kwargs):
        user, password = request.client_id, getattr(request, "client_secret", None)
        header = request.headers.get("Authorization", "")
        if header.startswith("Basic "):
            user, password = map(unquote, base64.b64decode(header[6:]).decode().split(":", 1))
        request.client = Client()
        return (user, password) == (CLIENT, SECRET)

    def validate_grant_type(self, client_id, grant_type, client, request, *args, **kwargs):
        return True

    def get_default_scopes(self, client_id, request, *args, **kwargs):
        return ["punch"]

    def get_original_scopes(self, refresh_token, request, *args, **kwargs):
        return ["punch"]

    def validate_scopes(self, client_id, scopes, client, request, *args, **kwargs):
        return scopes == ["punch"]

    def validate_refresh_token(self, refresh_token, client, request, *args, **kwargs):
        if refresh_token in self.burnt:
            self.refresh.clear()
            self.access.clear()
        return refresh_token in self.refresh

    def rotate_refresh_token(self, request):
        return True

    def save_bearer_token(self, token, request, *args, **kwargs):
        self.access[token["access_token"]] = time.monotonic() + self.life
        if request.grant_type == "refresh_token":
            self.refresh.discard(request.refresh_token)
            self.burnt.add(request.refresh_token)
            self.refresh.add(token["refresh_token"])

    def validate_bearer_token(self, token, scopes, request):
        return self.access.get(token, 0) > time.monotonic()


def main():
    life = int(sys.argv[1])
    validator = Validator(life)
    bearer = BearerToken(validator, expires_in=life)
    grants = {
        "client_credentials": ClientCredentialsGrant(validator),
        "refresh_token": RefreshTokenGrant(validator),
    }
    tokens = TokenEndpoint("client_credentials", bearer, grants)
    resource = ResourceEndpoint("Bearer", {"Bearer": bearer})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            address = f"http://127.0.0.1{self.path}"
            headers = dict(self.headers.items())
            headers = {name.title(): value for name, value in headers.items()}
            if self.path == "/token":
                more, text, status = tokens.create_token_response(address, "POST", body.decode(), headers)
            else:
                good, _ = resource.verify_request(address, "POST", None, headers, ["punch"])
                more, text, status = {}, "", 201 if good else 401
            text = text.encode()
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


main()
