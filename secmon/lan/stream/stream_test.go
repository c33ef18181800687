package stream_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"warder/secmon/lan/stream"
)

func pieces(p []byte, cuts ...int) stream.Pieces {
	var parts [][]byte
	for _, c := range cuts {
		parts = append(parts, p[:c])
		p = p[c:]
	}
	parts = append(parts, p)
	return stream.Pieces{Head: parts[0], Body: parts[1:]}
}

func TestPieces(t *testing.T) {
	p := pieces([]byte("0123456789"), 3, 0, 2)
	for _, c := range []struct {
		off, n int
		want   string
	}{{0, 10, "0123456789"}, {2, 5, "23456"}, {4, 1, "4"}, {9, 5, "9"}, {10, 1, ""}, {0, 0, ""}} {
		if got := string(p.Append(nil, c.off, c.n)); got != c.want {
			t.Errorf("%d at %d: %q", c.n, c.off, got)
		}
	}
}

// TestAnyOrder sends a stream in segments of random places and lengths, some twice,
// around the end of the numbers.
func TestAnyOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for round := range 200 {
		m := stream.NewMemory(1<<20, nil)
		want := make([]byte, 4000)
		for i := range want {
			want[i] = byte(rnd.Uint32())
		}
		first := uint32(rnd.Uint32())
		if round%2 == 0 {
			first = -uint32(rnd.IntN(4000))
		}
		h := stream.Half{Memory: m}
		h.Start(first)
		var got []byte
		add := func(at, n int) {
			if h.Add(first+uint32(at), pieces(want[at:at+n], n/2), 0, n) {
				got = append(got, h.Unread()...)
				h.Use(len(h.Unread()), 0)
			}
		}
		for at := 0; at < len(want); at += 400 {
			for _, i := range rnd.Perm(4) {
				add(at+i*100, min(100+rnd.IntN(50), len(want)-at-i*100))
				if rnd.IntN(3) == 0 {
					add(at, 10)
				}
			}
		}
		if !bytes.Equal(got, want) || m.Used() != 0 || m.Lost() != 0 {
			t.Fatalf("round %d: %d bytes, %d held, %d lost", round, len(got), m.Used(), m.Lost())
		}
	}
}

func TestFirstCopyCounts(t *testing.T) {
	m := stream.NewMemory(1<<20, nil)
	h := stream.Half{Memory: m}
	h.Start(0)
	h.Add(2, pieces([]byte("cd")), 0, 2)
	h.Add(0, pieces([]byte("abXX")), 0, 4)
	h.Add(0, pieces([]byte("YYYYe")), 0, 5)
	if got := string(h.Unread()); got != "abXXe" {
		t.Errorf("%q", got)
	}
}

func TestSkip(t *testing.T) {
	m := stream.NewMemory(1<<20, nil)
	h := stream.Half{Memory: m}
	h.Start(100)
	h.Add(100, pieces([]byte("head body")), 0, 9)
	h.Use(5, 10) // 4 that are there, 6 to come
	if h.Add(109, pieces([]byte("12345")), 0, 5) {
		t.Errorf("to read: %q", h.Unread())
	}
	if !h.Add(114, pieces([]byte("6next")), 0, 5) || string(h.Unread()) != "next" || m.Used() != 4 {
		t.Errorf("%q, %d held", h.Unread(), m.Used())
	}
}

func TestBounds(t *testing.T) {
	big := make([]byte, 60000)
	for name, send := range map[string]func(m *stream.Memory, h *stream.Half){
		"many segments ahead": func(m *stream.Memory, h *stream.Half) {
			for i := range 40 {
				h.Add(uint32(10+20*i), pieces(big), 0, 10)
			}
		},
		"many bytes ahead": func(m *stream.Memory, h *stream.Half) {
			for i := range 3 {
				h.Add(uint32(10+60000*i), pieces(big), 0, 60000)
			}
		},
		"nobody reads": func(m *stream.Memory, h *stream.Half) {
			h.Add(0, pieces(big), 0, stream.MaxUnread+1)
			h.Settle()
		},
		"a frame that is too short":       func(m *stream.Memory, h *stream.Half) { h.Add(0, pieces(big[:10]), 0, 11) },
		"a frame ahead that is too short": func(m *stream.Memory, h *stream.Half) { h.Add(5, pieces(big[:10]), 0, 11) },
		"no memory": func(m *stream.Memory, h *stream.Half) {
			for i := range 10 {
				other := stream.Half{Memory: m}
				other.Add(0, pieces(big), 0, 50000)
				defer other.Stop()
				if i == 5 {
					h.Add(0, pieces(big), 0, 50000)
				}
			}
		},
	} {
		m := stream.NewMemory(200000, nil)
		h := stream.Half{Memory: m}
		h.Start(0)
		send(m, &h)
		if !h.Over() || m.Lost() == 0 || m.Used() != 0 {
			t.Errorf("%s: over %v, %d lost, %d held", name, h.Over(), m.Lost(), m.Used())
		}
	}
	m := stream.NewMemory(1000, nil)
	h := stream.Half{Memory: m}
	h.Start(0)
	if h.Add(1<<30, pieces(big), 0, 10) || h.Over() || m.Used() != 0 {
		t.Error("a segment that no receiver takes counts")
	}
}

// FuzzHalf adds segments as two bytes a segment say, and holds what comes out
// against an array in which the first copy of a byte stays.
func FuzzHalf(f *testing.F) {
	f.Add([]byte{0, 10, 20, 10, 10, 10}, false)
	f.Add([]byte{200, 1, 0, 255, 100, 200}, true)
	f.Fuzz(func(t *testing.T, p []byte, skips bool) {
		m := stream.NewMemory(4096, nil)
		h := stream.Half{Memory: m}
		h.Start(0)
		data := make([]byte, 1024)
		read := 0
		for i := 0; i+1 < len(p); i += 2 {
			at, n := int(p[i])*2, int(p[i+1])
			for j := range data[:n] {
				data[j] = byte(at + j)
			}
			if h.Add(uint32(at), pieces(data, n/3), 0, n) {
				for _, b := range h.Unread() {
					if b != byte(read) {
						t.Fatalf("byte %d is %d", read, b)
					}
					read++
				}
				skip := int64(0)
				if skips {
					skip = int64(n % 7)
				}
				h.Use(len(h.Unread()), skip)
				read += int(skip)
				h.Settle()
			}
			if m.Used() < 0 || m.Used() > 4096 {
				t.Fatalf("%d bytes held", m.Used())
			}
		}
		if h.Stop(); m.Used() != 0 {
			t.Fatalf("%d bytes left", m.Used())
		}
	})
}

// TestMemoryOfOne has one who holds too much lose, and nobody else.
func TestMemoryOfOne(t *testing.T) {
	all := stream.NewMemory(1000, nil)
	a, b := stream.NewMemory(600, all), stream.NewMemory(600, all)
	p := pieces(make([]byte, 700))
	h := stream.Half{Memory: a}
	h.Add(0, p, 0, 500)
	h.Add(500, p, 0, 200)
	other := stream.Half{Memory: b}
	other.Add(0, p, 0, 600)
	if !h.Over() || other.Over() || a.Lost() != 1 || b.Lost() != 0 || all.Lost() != 1 || all.Used() != 600 {
		t.Errorf("over %v, %v; lost %d, %d of %d; %d held", h.Over(), other.Over(), a.Lost(), b.Lost(), all.Lost(), all.Used())
	}
	third := stream.Half{Memory: a}
	third.Add(0, p, 0, 500)
	if !third.Over() || a.Used() != 0 || all.Used() != 600 {
		t.Errorf("over %v, %d and %d held", third.Over(), a.Used(), all.Used())
	}
	if other.Stop(); all.Used() != 0 {
		t.Errorf("%d held", all.Used())
	}
}
