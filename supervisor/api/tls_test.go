package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warder/guestinit/proto"
	"warder/internal/testcert"
	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
)

// said hands out what is logged.
type said chan string

func (s said) Write(p []byte) (int, error) {
	select {
	case s <- string(p):
	default:
	}
	return len(p), nil
}

// reachable is a host that clients of the network may ask.
type reachable struct {
	*testcert.Authority
	t      *testing.T
	server *Server
	host   *hosting.Host
	cfg    TLS
	url    string
	log    said
}

func overNetwork(t *testing.T, policies string) *reachable {
	t.Helper()
	dir := t.TempDir()
	n := &reachable{t: t, Authority: testcert.New(t, dir, "ca"), server: serve(t, filepath.Join(dir, "own"), "vm"), log: make(said, 64)}
	n.host = supervised(t, echoes{}, hosting.Config{PolicyFile: "access.cedar", Policies: policies}, declaration.Service{Name: "a", Command: []string{"x"}})
	n.server.HostServices(n.host)
	n.server.log = slog.New(slog.NewTextHandler(n.log, nil))
	n.cfg = TLS{Listen: "127.0.0.1:0", ClientCA: n.File}
	n.cfg.Cert, n.cfg.Key = n.Issue("host", nil)
	at, err := n.server.ShareTLS(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.url = "https://" + at.String()
	return n
}

// as is the host for who shows a certificate.
func (n *reachable) as(cert, key string) *Host {
	n.t.Helper()
	h, err := HostByURL(n.url, cert, key, n.File)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(h.Close)
	return h
}

const everything = `permit (principal, action, resource);`

func TestServicesOverTheNetwork(t *testing.T) {
	n := overNetwork(t, `
permit (principal == Client::"alice", action, resource) when { principal.units.contains("ops") && principal.dns.contains("laptop.example") };
permit (principal is Client, action == Action::"list", resource);
permit (principal == User::"alice", action, resource);
@id("not-stop") forbid (principal is Client, action == Action::"stop", resource) when { principal.cn == "alice" };`)
	ctx := t.Context()
	alice := n.as(n.Issue("alice", func(c *x509.Certificate) {
		c.Subject.OrganizationalUnit, c.DNSNames = []string{"ops"}, []string{"laptop.example"}
	}))
	if st, err := alice.Start(ctx, "a"); err != nil || st.By != "client alice" {
		t.Errorf("%+v, %v", st, err)
	}
	c, err := alice.Exec(ctx, "a", Exec{Command: proto.Command{Args: []string{"say", "7"}}, Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if x, err := c.Run(ctx, strings.NewReader("hello"), &out, io.Discard); err != nil || x.Status.Code != 7 || out.String() != "say 7\nhello" {
		t.Errorf("%+v, %v: %q", x, err, &out)
	}
	_, err = alice.Stop(ctx, "a", 0)
	if e := code(t, err, Forbidden); !strings.Contains(e.Message, "client alice may not") || !strings.Contains(e.Message, "not-stop") {
		t.Error(e)
	}
	_, err = alice.Add(ctx, "new", []byte("name: new"), "/")
	code(t, err, Forbidden)
	namesake := n.as(n.Issue("alice", nil)) // whom the user of that name's policy does not mean
	if _, err := namesake.Services(ctx); err != nil {
		t.Error(err)
	}
	_, err = namesake.Start(ctx, "a")
	code(t, err, Forbidden)
	for name, change := range map[string]func(*x509.Certificate){
		"dns.example":  func(c *x509.Certificate) { c.DNSNames = []string{"dns.example", "other"} },
		"a@example":    func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example"} },
		"spiffe://x/y": func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "x", Path: "/y"}} },
	} {
		_, err := n.as(n.Issue("names", func(c *x509.Certificate) { c.Subject.CommonName = ""; change(c) })).Start(ctx, "a")
		if e := code(t, err, Forbidden); !strings.Contains(e.Message, "client "+name+" may not") {
			t.Error(e)
		}
	}
}

// Who does not show a good certificate is told why it is not, and so is the host.
func TestCertificatesAreVerified(t *testing.T) {
	n := overNetwork(t, everything)
	stranger := testcert.New(t, t.TempDir(), "stranger")
	pass := func(cert, key string) func() error {
		return func() error { _, err := n.as(cert, key).Services(t.Context()); return err }
	}
	raw := func(cfg *tls.Config) func() error {
		return func() error {
			cfg.InsecureSkipVerify = true
			c, err := tls.Dial("tcp", strings.TrimPrefix(n.url, "https://"), cfg)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Read(make([]byte, 1))
			return err
		}
	}
	for name, test := range map[string]struct {
		ask        func() error
		told, says string
	}{
		"none":        {raw(&tls.Config{}), "certificate required", "didn't provide a certificate"},
		"another's":   {pass(stranger.Issue("x", nil)), "unknown certificate authority", "unknown authority"},
		"expired":     {pass(n.Issue("old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })), "expired certificate", "expired"},
		"of a server": {pass(n.Issue("web", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })), "does not take this certificate", "incompatible key usage"},
		"nameless":    {pass(n.Issue("nobody", func(c *x509.Certificate) { c.Subject = pkix.Name{} })), "bad certificate", "names nobody"},
		"evil":        {pass(n.Issue("evil", func(c *x509.Certificate) { c.Subject.CommonName = "a\x1b[2J" })), "bad certificate", "no name"},
		"TLS 1.2":     {raw(&tls.Config{MaxVersion: tls.VersionTLS12}), "protocol version", "unsupported versions"},
	} {
		t.Run(name, func(t *testing.T) {
			for { // complaints are said once a second
				if err := test.ask(); err == nil || !strings.Contains(err.Error(), test.told) {
					t.Fatalf("the client is told %v", err)
				}
				select {
				case line := <-n.log:
					if !strings.Contains(line, test.says) {
						t.Errorf("the host says %s", line)
					}
					return
				case <-time.After(100 * time.Millisecond):
				}
				if t.Context().Err() != nil {
					t.Fatal("the host says nothing")
				}
			}
		})
	}
	h, err := HostByURL(n.url, filepath.Join(n.Dir, "host.cert.pem"), filepath.Join(n.Dir, "host.key.pem"), stranger.File)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Services(t.Context()); err == nil || !strings.Contains(err.Error(), "not the host") {
		t.Errorf("a host that nobody vouches for: %v", err)
	}
	for _, bad := range [][4]string{
		{"http://h:1", "c", "k", ""}, {"https://h/path", "c", "k", ""}, {"h:1", "c", "k", ""}, {"https://h:1", "", "", ""}, {"https://h:1", "/no/such", "/no/such", ""},
	} {
		if _, err := HostByURL(bad[0], bad[1], bad[2], bad[3]); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Who connects and shows nothing takes nobody's place who has a certificate, and one who
// has takes no more than its own.
func TestPlacesOfClients(t *testing.T) {
	n := overNetwork(t, everything)
	address := strings.TrimPrefix(n.url, "https://")
	silent := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range 200 {
		c, err := silent.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	alice := n.as(n.Issue("alice", nil))
	following, stop := context.WithCancel(t.Context())
	defer stop()
	for range maxPerUser {
		resp, err := alice.client.do(following, "GET", "/v1/service-events", url.Values{"follow": {"1"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
	}
	_, err := alice.Services(t.Context())
	code(t, err, Busy)
	if _, err := n.as(n.Issue("bob", nil)).Services(t.Context()); err != nil {
		t.Errorf("another client: %v", err)
	}
}

// A certificate that is renewed holds for who connects next; what cannot be read changes
// nothing.
func TestCertificateIsRenewed(t *testing.T) {
	n := overNetwork(t, everything)
	shown := func() string {
		t.Helper()
		cert, err := tls.LoadX509KeyPair(n.Issue("probe", nil))
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.Dial("tcp", strings.TrimPrefix(n.url, "https://"), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.Organization[0]
	}
	renew := func(organization string) {
		t.Helper()
		n.Issue("host", func(c *x509.Certificate) { c.Subject.Organization = []string{organization} })
		later := time.Now().Add(time.Duration(len(organization)) * time.Hour) // whatever the clock's grain
		if err := errors.Join(os.Chtimes(n.cfg.Cert, later, later), os.Chtimes(n.cfg.Key, later, later)); err != nil {
			t.Fatal(err)
		}
	}
	renew("new")
	if got := shown(); got != "new" {
		t.Errorf("the certificate shown is %s", got)
	}
	if err := os.WriteFile(n.cfg.Cert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != "new" {
		t.Errorf("with a broken file, the certificate shown is %s", got)
	}
	renew("newer")
	if got := shown(); got != "newer" {
		t.Errorf("the certificate shown is %s", got)
	}
}
