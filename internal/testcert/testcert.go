// Package testcert makes certificates for tests.
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An Authority vouches for certificates, which it puts into a directory.
type Authority struct {
	t    *testing.T
	Dir  string
	File string // its own certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes one, and its certificate.
func New(t *testing.T, dir, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, Dir: dir, File: filepath.Join(dir, name+".pem")}
	c := template(name)
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
	a.key = newKey(t)
	a.cert = a.sign(c, c, a.key, a.File)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// template is a certificate for a client and a server at 127.0.0.1.
func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
}

func (a *Authority) sign(c, parent *x509.Certificate, key *ecdsa.PrivateKey, file string) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err == nil {
		err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// Issue gives the files of a certificate, which change changes, and of its key.
func (a *Authority) Issue(name string, change func(*x509.Certificate)) (cert, key string) {
	a.t.Helper()
	c := template(name)
	if change != nil {
		change(c)
	}
	k := newKey(a.t)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.Dir, name+".cert.pem"), filepath.Join(a.Dir, name+".key.pem")
	a.sign(c, a.cert, k, cert)
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}
