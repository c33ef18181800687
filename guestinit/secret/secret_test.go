package secret

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"warder/guestinit/proto"
)

// recorded keeps what passes on a connection.
type recorded struct {
	net.Conn
	all bytes.Buffer
}

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.all.Write(p[:n])
	return n, err
}

func (r *recorded) Write(p []byte) (int, error) {
	r.all.Write(p)
	return r.Conn.Write(p)
}

// exchange has a guest ask for a name, and gives what has passed.
func exchange(t *testing.T, name string, get func(string) ([]byte, error)) (value []byte, passed string, err error) {
	t.Helper()
	host, guest := net.Pipe()
	answered := make(chan error, 1)
	go func() {
		defer host.Close()
		p, err := proto.ReadPreamble(host)
		if err == nil && p.Role != proto.Secret {
			err = errors.New("it is for something else")
		}
		if err == nil {
			err = Answer(host, get)
		}
		answered <- err
	}()
	r := &recorded{Conn: guest}
	value, err = Ask(r, name)
	if e := <-answered; e != nil {
		t.Errorf("the host: %v", e)
	}
	return value, r.all.String(), err
}

func TestAsk(t *testing.T) {
	const text = "a value that nobody else sees"
	given := []byte(text)
	value, passed, err := exchange(t, "db", func(name string) ([]byte, error) {
		if name != "db" {
			t.Errorf("asked for %q", name)
		}
		return given, nil
	})
	if err != nil || string(value) != text {
		t.Errorf("%q, %v", value, err)
	}
	if strings.Contains(passed, "nobody") || strings.Contains(passed, "bm9ib2R5") {
		t.Error("it can be read on the way")
	}
	if strings.Contains(string(given), "value") {
		t.Error("it is still in the host's memory")
	}
	if value, _, err := exchange(t, "largest", func(string) ([]byte, error) { return make([]byte, MaxSize), nil }); err != nil || len(value) != MaxSize {
		t.Errorf("the largest: %d bytes, %v", len(value), err)
	}
}

func TestRefused(t *testing.T) {
	for says, get := range map[string]func(string) ([]byte, error){
		"not declared":              func(string) ([]byte, error) { return nil, proto.Errorf(proto.CodeRefused, "not declared") },
		"the host could not get it": func(string) ([]byte, error) { return []byte("partly"), errors.New("open /etc/x: with a detail") },
	} {
		if value, _, err := exchange(t, "db", get); err == nil || err.Error() != says || value != nil {
			t.Errorf("%q, %v, want %q", value, err, says)
		}
	}
	for _, name := range []string{"", "..", "a/b", "a\nb", strings.Repeat("x", 64), "-a", ".a"} {
		_, _, err := exchange(t, name, func(string) ([]byte, error) { t.Errorf("%q was looked up", name); return nil, nil })
		if err == nil {
			t.Errorf("%q: no error", name)
		}
	}
}

// FuzzAnswer has a guest send what it likes.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"name":"db","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add([]byte(`{"name":"../x","key":"CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in bytes.Buffer
		if proto.WriteFrame(&in, b) != nil {
			return
		}
		var out bytes.Buffer
		_ = Answer(struct {
			io.Reader
			io.Writer
		}{&in, &out}, func(name string) ([]byte, error) {
			if !GoodName(name) {
				t.Errorf("%q is asked for", name)
			}
			return []byte("a value"), nil
		})
		if bytes.Contains(out.Bytes(), []byte("a value")) {
			t.Error("it can be read on the way")
		}
	})
}
