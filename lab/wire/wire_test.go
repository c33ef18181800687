package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFramesComeBackAsSent(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	start := StartInfo{Args: []string{"a", "b c"}, Env: []string{"X=1"}, Dir: "/d", Results: "/r", TTY: true, Size: Size{80, 24}}
	long := bytes.Repeat([]byte("0123456789abcdef"), 3*MaxPayload/16+1)
	for _, err := range []error{
		w.WriteJSON(Start, start),
		w.Write(Alive, nil),
		w.Write(Stdin, long),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	var got StartInfo
	if err := f.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(start, got); f.Type != Start || diff != "" {
		t.Errorf("frame %d: -sent +received\n%s", f.Type, diff)
	}
	if f, err = Read(&b); err != nil || f.Type != Alive || len(f.Payload) != 0 {
		t.Errorf("got %v, %v, want an empty Alive", f, err)
	}
	var all []byte
	for range 4 {
		f, err := Read(&b)
		if err != nil || f.Type != Stdin {
			t.Fatalf("got type %d, %v, want Stdin", f.Type, err)
		}
		all = append(all, f.Payload...)
	}
	if !bytes.Equal(all, long) {
		t.Error("a payload longer than a frame came back changed")
	}
	if _, err := Read(&b); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want string
	}{
		"too long":          {"\x09\x01\x00\x02\x00", "131073 bytes"},
		"4 GiB":             {"\x09\xff\xff\xff\xff", "4294967295 bytes"},
		"half a header":     {"\x09\x00", "unexpected EOF"},
		"no payload":        {"\x09\x02\x00\x00\x00", "unexpected EOF"},
		"half of a payload": {"\x09\x02\x00\x00\x00a", "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(strings.NewReader(c.in))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestConcurrentFramesDoNotMix(t *testing.T) {
	r, w := io.Pipe()
	out := NewWriter(w)
	var wg sync.WaitGroup
	const writers, each = 4, 200
	for i := range writers {
		s := out.Stream(Stdout)
		p := bytes.Repeat([]byte{byte('a' + i)}, 1000+i)
		wg.Go(func() {
			for range each {
				if _, err := s.Write(p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		w.Close()
	}()
	var seen [writers]int
	for {
		f, err := Read(r)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		i := len(f.Payload) - 1000
		if i < 0 || i >= writers || bytes.Count(f.Payload, []byte{byte('a' + i)}) != len(f.Payload) {
			t.Fatalf("a frame of %d bytes is none that was sent", len(f.Payload))
		}
		seen[i]++
	}
	if want := [writers]int{each, each, each, each}; seen != want {
		t.Errorf("frames by writer: %v, want %v", seen, want)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\x09\x02\x00\x00\x00ab"))
	f.Add([]byte("\x02\x00\x00\x00\x00\x09\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		for {
			frame, err := Read(r)
			if err != nil {
				return
			}
			if len(frame.Payload) > MaxPayload {
				t.Fatalf("a payload of %d bytes", len(frame.Payload))
			}
		}
	})
}
