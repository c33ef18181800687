package api

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"warder/supervisor/verify"
)

// TLS is how clients of the network may ask.
type TLS struct {
	Listen string // address and port
	// Cert and Key are files of the host's own certificate, with those that lead up to its
	// root, and ClientCA one of the roots that vouch for clients; all are PEM. One that
	// changes is read again.
	Cert, Key, ClientCA string
}

// Bounds on who has not shown a certificate yet.
const (
	maxHandshakes    = 64
	maxPerAddress    = 16 // of them
	handshakeTimeout = 10 * time.Second
	// lastWords is how long a client that was refused may take to read why.
	lastWords = time.Second
	// maxClientName bounds who a certificate says that a client is, in bytes.
	maxClientName = 256
)

// ShareTLS opens a port for clients that show a certificate. It is called after
// HostServices, and gives the address that it listens at.
func (s *Server) ShareTLS(cfg TLS) (net.Addr, error) {
	files := &tlsFiles{cfg: cfg}
	if err := files.read(); err != nil {
		return nil, fmt.Errorf("access by TLS: %w", err)
	}
	tcp, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("access by TLS: %w", err)
	}
	l := &tlsListener{
		Listener: tcp, log: s.log, config: &tls.Config{SessionTicketsDisabled: true, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return files.now(s.log), nil }},
		handshakes: newAdmission(maxHandshakes), clients: newAdmission(maxConnections), ready: make(chan *conn),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.work.Go(l.accept)
	s.open(l)
	return tcp.Addr(), nil
}

// tlsFiles are the host's certificate and who it trusts, as they are on disk.
type tlsFiles struct {
	cfg TLS

	mu     sync.Mutex
	stamp  string // of what config was read from
	config *tls.Config
}

// now is what holds at this moment. Files that are wrong leave what they were.
func (f *tlsFiles) now(log *slog.Logger) *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if stamp := f.stampNow(); stamp != f.stamp {
		if err := f.read(); err != nil {
			f.stamp = stamp // it is said once
			log.Warn("access by TLS: what there was before stays", "because", err)
		}
	}
	return f.config
}

// stampNow changes with the files.
func (f *tlsFiles) stampNow() string {
	var b strings.Builder
	for _, name := range []string{f.cfg.Cert, f.cfg.Key, f.cfg.ClientCA} {
		if st, err := os.Stat(name); err == nil {
			fmt.Fprintln(&b, st.ModTime().UnixNano(), st.Size())
		}
	}
	return b.String()
}

func (f *tlsFiles) read() error {
	stamp := f.stampNow() // before, so that a change meanwhile is another
	cert, err := tls.LoadX509KeyPair(f.cfg.Cert, f.cfg.Key)
	if err != nil {
		return err
	}
	roots, err := readRoots(f.cfg.ClientCA)
	if err != nil {
		return err
	}
	f.stamp, f.config = stamp, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert},
		SessionTicketsDisabled: true, // who is taken up again would not be verified again
		ClientAuth:             tls.RequireAndVerifyClientCert, ClientCAs: roots, NextProtos: []string{"http/1.1"},
		VerifyConnection: func(s tls.ConnectionState) error { _, err := clientOf(s.PeerCertificates[0]); return err },
	}
	return nil
}

// readRoots reads a file of certificates.
func readRoots(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return roots, nil
}

// tlsListener brings clients that have shown a certificate. Those that have not yet take
// nobody's place who has.
type tlsListener struct {
	net.Listener
	config     *tls.Config
	log        *slog.Logger
	handshakes *admission // by address
	clients    *admission // by who they are
	complaints complaints

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	ready  chan *conn
}

func (l *tlsListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close waits for the handshakes to give up.
func (l *tlsListener) Close() error {
	l.cancel()
	err := l.Listener.Close()
	l.work.Wait()
	return err
}

func (l *tlsListener) accept() {
	for {
		c, err := l.Listener.Accept()
		switch {
		case l.ctx.Err() != nil:
			return
		case err != nil: // no file left, most likely
			l.log.Warn("access by TLS", "err", err)
			select {
			case <-time.After(time.Second):
			case <-l.ctx.Done():
				return
			}
			continue
		}
		address := share{c.RemoteAddr().(*net.TCPAddr).IP.String(), maxPerAddress}
		if !l.handshakes.enter(address) {
			l.refused(c.RemoteAddr(), errors.New("too many that have not shown a certificate yet"))
			c.Close()
			continue
		}
		l.work.Go(func() {
			client := l.shake(c)
			l.handshakes.leave(address)
			if client == nil {
				return
			}
			select {
			case l.ready <- client:
			case <-l.ctx.Done():
				client.Close()
			}
		})
	}
}

// shake finds out who a client is, nil for none.
func (l *tlsListener) shake(c net.Conn) *conn {
	t := tls.Server(c, l.config)
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
	defer cancel()
	err := t.HandshakeContext(ctx)
	if err != nil {
		l.refused(c.RemoteAddr(), err)
		l.linger(c)
		return nil
	}
	who, err := clientOf(t.ConnectionState().PeerCertificates[0])
	if err != nil { // which was no error a moment before
		t.Close()
		return nil
	}
	admitted := l.clients.admit(t, share{who.String(), maxPerUser})
	if admitted != nil {
		admitted.peer = who
	}
	return admitted
}

// linger lets a client read why it was refused: to close what it has written to unread
// would take that from it.
func (l *tlsListener) linger(c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(l.ctx, func() { c.Close() })()
	if h, ok := c.(halfCloser); ok && h.CloseWrite() == nil && c.SetDeadline(time.Now().Add(lastWords)) == nil {
		io.CopyN(io.Discard, c, maxHeader)
	}
}

type halfCloser interface{ CloseWrite() error }

// refused says why a client was, as often as a person wants to read it.
func (l *tlsListener) refused(from net.Addr, err error) {
	if more, ok := l.complaints.due(time.Now()); ok {
		l.log.Warn("refused a client of the network", "address", from.String(), "because", err, "others_since", more)
	}
}

// complaints are said once a second at the most; what is not said is counted.
type complaints struct {
	mu     sync.Mutex
	last   time.Time
	unsaid int
}

func (c *complaints) due(now time.Time) (unsaid int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.last) < time.Second {
		c.unsaid++
		return 0, false
	}
	unsaid, c.unsaid, c.last = c.unsaid, 0, now
	return unsaid, true
}

// client is a client of the network, as its certificate says.
type client struct{ verify.Principal }

func (c client) String() string              { return c.Principal.String() }
func (c client) principal() verify.Principal { return c.Principal }

// clientOf is whom a certificate is for: its subject's common name, without one its
// first name of the DNS, its first e-mail address or its first URI.
func clientOf(c *x509.Certificate) (client, error) {
	sum := sha256.Sum256(c.Raw)
	out := &verify.Certificate{
		CommonName: c.Subject.CommonName, Organizations: c.Subject.Organization, Units: c.Subject.OrganizationalUnit,
		DNS: c.DNSNames, Emails: c.EmailAddresses, Fingerprint: hex.EncodeToString(sum[:]),
	}
	for _, u := range c.URIs {
		out.URIs = append(out.URIs, u.String())
	}
	name := out.CommonName
	for _, list := range [][]string{out.DNS, out.Emails, out.URIs} {
		if name == "" && len(list) > 0 {
			name = list[0]
		}
	}
	switch {
	case name == "":
		return client{}, errors.New("its certificate names nobody: it has no common name and no alternative name")
	case len(name) > maxClientName || strings.ContainsFunc(name, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }):
		return client{}, fmt.Errorf("its certificate is for %.64q, which is no name", name)
	}
	return client{verify.Principal{Name: name, Certificate: out}}, nil
}
