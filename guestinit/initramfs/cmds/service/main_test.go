package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"warder/guestinit/proto"
)

func TestRequest(t *testing.T) {
	if port != proto.ServicesPort {
		t.Errorf("port %d, the host listens at %d", port, proto.ServicesPort)
	}
	for line, want := range map[string]string{
		"ls": "GET /v1/services", "show self": "GET /v1/services/self", "start db": "POST /v1/services/db/start",
		"stop self": "POST /v1/services/self/stop", "wait db": "GET /v1/services/db/wait",
	} {
		method, path, err := request(strings.Fields(line))
		if err != nil || method+" "+path != want {
			t.Errorf("%s: %s %s, %v", line, method, path, err)
		}
	}
	for _, args := range [][]string{nil, {"ls", "x"}, {"stop"}, {"stop", ""}, {"stop", "a/b"}, {"stop", "a\r\nX: y"}, {"start", "a", "b"}, {"eat", "x"}, {"show", "a?b"}} {
		if _, _, err := request(args); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// answering is a host that says the same to everybody.
type answering struct {
	io.Reader
	asked bytes.Buffer
}

func (a *answering) Write(p []byte) (int, error) { return a.asked.Write(p) }

func TestAsk(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}": "{}",
		"HTTP/1.0 403 Forbidden\r\n\r\n{\"message\": \"no\"}":         "error no",
		"HTTP/1.0 500 Oops\r\nX: y\r\n\r\nwhat":                       "error the host answers 500 Oops",
		"HTTP/1.0 200 OK\r\nX: y":                                     "error the host hung up: EOF",
		"":                                                            "error the host hung up: EOF",
	} {
		h := &answering{Reader: strings.NewReader(answer)}
		body, err := ask(h, "GET", "/x")
		got := string(body)
		if err != nil {
			got = "error " + err.Error()
		}
		if got != want || h.asked.String() != "GET /x HTTP/1.0\r\n\r\n" {
			t.Errorf("%q: %q, want %q; it was asked %q", answer, got, want, h.asked.String())
		}
	}
}
