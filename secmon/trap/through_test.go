package trap

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnderstood(t *testing.T) {
	const at = 0xffff_8000_0010_0000
	for _, c := range []struct {
		arch string
		code string
		want instruction
		ok   bool
	}{
		{"amd64", "\x0f\x1f\x44\x00\x00", instruction{length: 5}, true},
		{"amd64", "\xf3\x0f\x1e\xfa\x55", instruction{length: 4}, true},
		{"amd64", "\x66\x0f\x1f\x00\x55", instruction{length: 4}, true},
		{"amd64", "\xe8\x10\x00\x00\x00", instruction{5, doesCall, at + 5 + 0x10}, true},
		{"amd64", "\xe8\xf0\xff\xff\xff", instruction{5, doesCall, at + 5 - 0x10}, true},
		{"amd64", "\xe9\x00\x00\x00\x80", instruction{5, doesJump, at + 5 - 1<<31}, true},
		{"amd64", "\x55\x48\x89\xe5\x41", instruction{}, false},
		{"amd64", "\xe8\x10\x00", instruction{}, false},
		{"amd64", "", instruction{}, false},
		{"arm64", "\x1f\x20\x03\xd5", instruction{length: 4}, true},
		{"arm64", "\x5f\x24\x03\xd5", instruction{length: 4}, true},
		{"arm64", "\xc0\x03\x5f\xd6", instruction{4, doesReturn, 0}, true},
		{"arm64", "\x01\x00\x00\x14", instruction{4, doesJump, at + 4}, true},
		{"arm64", "\xff\xff\xff\x97", instruction{4, doesCall, at - 4}, true},
		{"arm64", "\x00\x00\x00\x96", instruction{4, doesCall, at - 1<<27}, true},
		{"arm64", "\x3f\x23\x03\xd5", instruction{}, false}, // paciasp changes X30
		{"arm64", "\xfd\x7b\xbf\xa9", instruction{}, false},
		{"arm64", "\x1f\x20", instruction{}, false},
	} {
		if got, ok := understood(c.arch, []byte(c.code), at); got != c.want || ok != c.ok {
			t.Errorf("%s % x: %+v, %v, want %+v, %v", c.arch, c.code, got, ok, c.want, c.ok)
		}
	}
}

func TestPrelude(t *testing.T) {
	for _, c := range []struct {
		arch, code string
		want       int
	}{
		// How ftrace_arch_code_modify_prepare begins in Linux 6.1, and in 5.10 for arm64.
		{"amd64", "\x48\xc7\xc7\xc0\x97\xa5\x82\xe8\xf4\xf0\x99\x00", 7},
		{"arm64", "\x3f\x23\x03\xd5\xbf\x23\x03\xd5\xc0\x03\x5f\xd6", 8},
		{"arm64", "\x00\x00\x80\x52\x3f\x23\x03\xd5\xbf\x23\x03\xd5\xc0\x03\x5f\xd6", 12},

		{"amd64", "\x48\xc7\xc6\xc0\x97\xa5\x82\xe8\xf4\xf0\x99\x00", 0},
		{"amd64", "\x48\xc7\xc7\xc0\x97\xa5\x82", 0}, // nothing behind it
		{"arm64", "\x48\xc7\xc7\xc0\x97\xa5\x82\xe8\xf4\xf0\x99\x00", 0},
		{"arm64", "\x20\x00\x80\x52\xc0\x03\x5f\xd6", 0},
		{"amd64", "", 0},
	} {
		if got := prelude(c.arch, []byte(c.code)); got != c.want {
			t.Errorf("%s % x: %d, want %d", c.arch, c.code, got, c.want)
		}
	}
}

// TestReturns has calls come back to whom they belong, whatever a guest does with its
// tasks and stacks.
func TestReturns(t *testing.T) {
	var r returns
	put := func(task, stack, popped, back uint64) bool {
		return r.put(task, underway{stack: stack, popped: popped, back: back})
	}
	put(1, 0x1000, 8, 0xa)
	put(2, 0x2000, 0, 0xb)
	for _, c := range []struct {
		task, stack uint64
		back        uint64 // 0 for none
	}{
		{3, 0x1008, 0},
		{1, 0x1000, 0}, // as high as at its begin: it has called something
		{1, 0xf00, 0},
		{1, 0x1008, 0xa},
		{1, 0x1008, 0}, // taken
		{2, 0x2000, 0xb},
	} {
		u := r.take(c.task, c.stack)
		if got := u != nil; got != (c.back != 0) || got && u.back != c.back {
			t.Errorf("task %d with stack %#x: %+v, want %#x", c.task, c.stack, u, c.back)
		}
	}
	if r.pending() != 0 {
		t.Errorf("%d are left", r.pending())
	}
	for task := range uint64(maxReturns) {
		put(task, 0, 0, 0)
	}
	if put(maxReturns, 0, 0, 0) {
		t.Error("there is no bound")
	}
	if !put(7, 1, 0, 0) || r.pending() != maxReturns {
		t.Error("a task's next call has no room")
	}
	r.forget(7)
	if r.pending() != maxReturns-1 {
		t.Error("a call was not forgotten")
	}
}

func TestHold(t *testing.T) {
	h := NewHold()
	select {
	case <-h.done:
		t.Fatal("released by nobody")
	default:
	}
	h.Release(unix.EPERM)
	h.Release(0)
	<-h.done
	if h.errno != unix.EPERM {
		t.Errorf("released with %v", h.errno)
	}
	d := Delay(1)
	<-d.done
	if d.errno != 0 {
		t.Errorf("a delay ends with %v", d.errno)
	}
}
