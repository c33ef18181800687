package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
)

// HostByURL is the host that answers at an https URL, for who shows the certificate in
// cert with its key. The host's own has to be vouched for by one of the file ca, of the
// system's where that is "". Its PID is not known.
func HostByURL(address, cert, key, ca string) (*Host, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q: give https://HOST:PORT", address)
	}
	if cert == "" || key == "" {
		return nil, errors.New("a host answers over the network to who shows a certificate: give one and its key")
	}
	own, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	var roots *x509.CertPool // the system's
	if ca != "" {
		if roots, err = readRoots(ca); err != nil {
			return nil, err
		}
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	d := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: u.Hostname(), NextProtos: []string{"http/1.1"},
		// One that the host does not ask for is shown too, to be told what is wrong with it.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil },
	}}
	return &Host{client: clientBy(func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	})}, nil
}

// explainTLS says whose certificate an error is about.
func explainTLS(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return fmt.Errorf("the host does not take this certificate (it says why in its log): %w", op.Err)
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("this is not the host, or --ca is not who vouches for it: %w", e.Err)
	}
	return err
}
