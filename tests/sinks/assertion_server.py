# A token endpoint that takes assertions (RFC 7523), checked by PyJWT and cryptography, and a resource behind it. Usage:
# assertion_server.py ALGORITHM KEY_FILE; prints its port. Issuer "gw 1"; every assertion is good once.

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import jwt

BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLIENT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def main():
    algorithm, key = sys.argv[1], open(sys.argv[2]).read()
    used, tokens = set(), set()

    def who(assertion):
        required = ["iss", "sub", "aud", "exp", "iat", "jti"]
        audience = f"http://127.0.0.1:{server.server_port}/token"
        claims = jwt.decode(assertion, key, algorithms=[algorithm], audience=audience, options={"require": required})
        if jwt.get_unverified_header(assertion).get("kid") != "k-1":
            raise ValueError("no such key")
        if claims["jti"] in used or claims["exp"] - claims["iat"] > 600:
            raise ValueError("used before, or good for too long")
        used.add(claims["jti"])
        return claims

    def token(form):
        if form.get("grant_type") == BEARER:
            claims = who(form["assertion"])
            return (claims["iss"], claims["sub"], claims.get("scope")) == ("gw 1", "site@hr", "punch")
        if form.get("grant_type") == "client_credentials" and form.get("client_assertion_type") == CLIENT:
            claims = who(form["client_assertion"])
            return claims["iss"] == claims["sub"] == form.get("client_id", "gw 1") == "gw 1" and "client_secret" not in form
        return False

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path == "/token":
                try:
                    good = token({name: values[0] for name, values in parse_qs(body.decode()).items()})
                    error = "invalid_grant"
                except Exception as problem:
                    good, error = False, f"{type(problem).__name__}: {problem}"
                if good:
                    tokens.add(f"a-{len(tokens)}")
                    # Over at once: every request asks for another one.
                    self.answer(200, {"access_token": f"a-{len(tokens) - 1}", "token_type": "Bearer", "expires_in": 0})
                else:
                    print(error, file=sys.stderr, flush=True)
                    self.answer(400, {"error": error})
            else:
                known = self.headers.get("authorization", "").removeprefix("Bearer ") in tokens
                self.answer(201 if known else 401, {})

        def answer(self, status, document):
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


main()
