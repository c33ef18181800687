// Package secret is how a guest asks its host for a secret by name.
//
// Each ask is a connection of its own, with the role [proto.Secret]: a frame with the
// name and a key that is made for it, and a frame with the secret, sealed for that
// key, or with why there is none. So what passes on the way is seen by nobody who
// watches connections, and kept in no capture.
package secret

import (
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"

	"warder/guestinit/proto"
)

// MaxSize is the size of a secret at most, in bytes.
const MaxSize = 64 << 10

// name is good as the name of a file.
var name = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$`)

// GoodName tells whether a secret can have the name.
func GoodName(s string) bool { return name.MatchString(s) }

// An ask is what the guest sends, a reply what it gets.
type (
	ask struct {
		Name string `json:"name"`
		Key  []byte `json:"key"`
	}
	reply struct {
		Sealed []byte       `json:"sealed,omitempty"`
		Error  *proto.Error `json:"error,omitempty"`
	}
)

func kem() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }

func suite() (hpke.KDF, hpke.AEAD) { return hpke.HKDFSHA256(), hpke.AES256GCM() }

// info is what a sealed secret is bound to.
func info(name string) []byte { return []byte("warder secret " + name) }

// Ask is the guest's side, on a connection that was dialled for it. An error of the
// host's is a *proto.Error.
func Ask(conn io.ReadWriter, name string) ([]byte, error) {
	if err := proto.WritePreamble(conn, proto.Preamble{Role: proto.Secret}); err != nil {
		return nil, err
	}
	key, err := kem().GenerateKey()
	if err != nil {
		return nil, err
	}
	if err := writeFrame(conn, ask{name, key.PublicKey().Bytes()}); err != nil {
		return nil, err
	}
	var r reply
	if err := readFrame(conn, &r); err != nil {
		return nil, err
	}
	if r.Error != nil {
		return nil, r.Error
	}
	kdf, aead := suite()
	value, err := hpke.Open(key, kdf, aead, info(name), r.Sealed)
	if err != nil {
		return nil, fmt.Errorf("the host's answer is not for this: %w", err)
	}
	return value, nil
}

// Answer is the host's side, after the preamble: get gives the value of a secret,
// which is cleared once it is sealed. An error of get that is a *proto.Error the
// guest is told, of another one only that there was one. What Answer returns is
// about the connection.
func Answer(conn io.ReadWriter, get func(name string) ([]byte, error)) error {
	var a ask
	if err := readFrame(conn, &a); err != nil {
		return err
	}
	key, err := kem().NewPublicKey(a.Key)
	if err != nil || !GoodName(a.Name) {
		return writeFrame(conn, reply{Error: proto.Errorf(proto.CodeBadRequest, "no name of a secret, or no key")})
	}
	value, err := get(a.Name)
	defer clear(value)
	if err != nil {
		told, ok := errors.AsType[*proto.Error](err)
		if !ok {
			told = proto.Errorf(proto.CodeInternal, "the host could not get it")
		}
		return writeFrame(conn, reply{Error: told})
	}
	kdf, aead := suite()
	sealed, err := hpke.Seal(key, kdf, aead, info(a.Name), value)
	if err != nil {
		return err
	}
	return writeFrame(conn, reply{Sealed: sealed})
}

func writeFrame(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return proto.WriteFrame(w, b)
}

func readFrame(r io.Reader, v any) error {
	b, err := proto.ReadFrame(r)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
