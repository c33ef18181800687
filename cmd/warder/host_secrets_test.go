package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warder/guestinit/proto"
	"warder/guestinit/secret"
	"warder/secmon/event"
	"warder/secmon/watch"
	"warder/supervisor/declaration"
)

func TestSecretsConfig(t *testing.T) {
	t.Setenv("TOKEN_OF_TEST", "of the environment")
	dir := t.TempDir()
	c := secretsConfig{"db": "file:db.key", "token": "env:TOKEN_OF_TEST"}
	if err := c.check(dir); err != nil || c["db"] != "file:"+filepath.Join(dir, "db.key") {
		t.Fatalf("%v, %v", c, err)
	}
	v := c.open()
	if _, ok := os.LookupEnv("TOKEN_OF_TEST"); ok {
		t.Error("programs that are started have it")
	}
	got, err := v.get("token")
	if err != nil || string(got) != "of the environment" {
		t.Errorf("%q, %v", got, err)
	}
	clear(got)
	if again, _ := v.get("token"); !bytes.Equal(again, []byte("of the environment")) {
		t.Errorf("the second time: %q", again)
	}
	if err := v.missing([]string{"db", "token"}); err != nil {
		t.Error(err)
	}
	if err := v.missing([]string{"db", "other"}); err == nil {
		t.Error("there is no other")
	}

	file := filepath.Join(dir, "db.key")
	write := func(content string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file, []byte(content), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("first", 0o600)
	if got, err := v.get("db"); err != nil || string(got) != "first" {
		t.Errorf("%q, %v", got, err)
	}
	write("second", 0o640)
	if got, err := v.get("db"); err != nil || string(got) != "second" {
		t.Errorf("once it was changed: %q, %v", got, err)
	}
	write("third", 0o644)
	if _, err := v.get("db"); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("everybody can read it: %v", err)
	}
	write(strings.Repeat("x", secret.MaxSize+1), 0o600)
	if _, err := v.get("db"); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too large: %v", err)
	}
	for says, c := range map[string]secretsConfig{
		"say where it is from": {"a": "hunter2"},
		"no NONE_OF_TEST":      {"a": "env:NONE_OF_TEST"},
		"a name has letters":   {"../a": "file:x"},
		"give at most":         many(maxSecrets + 1),
	} {
		err := c.check(dir)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("it says what may be the secret: %v", err)
		}
	}
}

func many(n int) secretsConfig {
	c := make(secretsConfig)
	for i := range n {
		c[strings.Repeat("a", i%60+1)+string(rune('a'+i%26))+string(rune('a'+i/26))] = "file:x"
	}
	return c
}

// TestSecretsAreToldOf has a VM ask for what it is declared to get, and for more.
func TestSecretsAreToldOf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(file, []byte("the value"), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, _, err := (&hostConfig{}).openLibrary()
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch.New(rules.now)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{watch: w, vault: secretsConfig{"db": "file:" + file, "other": "file:" + file, "gone": "file:/no/such"}.open()}
	get := h.secretFor(hostVM{Service: declaration.Service{Name: "web", Secrets: []string{"db", "gone"}}})
	next := func(action, says string) {
		t.Helper()
		e, err := w.Events.Next(t.Context())
		if err != nil || e.VM != "web" || e.Kind != event.Lifecycle || e.Action != action || !strings.Contains(e.Message, says) || strings.Contains(e.Message, "value") {
			t.Errorf("event %+v (%v), want %s of %q", e, err, action, says)
		}
	}
	if v, err := get("db"); err != nil || string(v) != "the value" {
		t.Errorf("%q, %v", v, err)
	}
	next(secretGiven, "db")
	for _, name := range []string{"other", "unknown"} {
		v, err := get(name)
		if e, ok := errors.AsType[*proto.Error](err); !ok || e.Code != proto.CodeRefused || v != nil {
			t.Errorf("%s: %q, %v", name, v, err)
		}
		next(secretRefused, name)
	}
	if _, err := get("gone"); err == nil {
		t.Error("a file that is gone has a secret")
	}
	next(secretFailed, "gone")

	for range askBurst {
		_, err = get("db")
	}
	if e, ok := errors.AsType[*proto.Error](err); !ok || e.Code != proto.CodeBusy {
		t.Errorf("asked without end: %v", err)
	}
}

func TestAskLimit(t *testing.T) {
	l := &askLimit{}
	now := time.Unix(1000, 0)
	for i := range askBurst {
		if ok, _ := l.take(now); !ok {
			t.Fatalf("question %d is not answered", i)
		}
	}
	for range 3 {
		if ok, _ := l.take(now.Add(time.Second / 2)); ok {
			t.Error("one too many is answered")
		}
	}
	if ok, held := l.take(now.Add(time.Second)); !ok || held != 3 {
		t.Errorf("a second later: %v, %d not answered before", ok, held)
	}
	if ok, _ := l.take(now.Add(time.Second)); ok {
		t.Error("two in that second are answered")
	}
}
