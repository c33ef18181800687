package syscalls

import (
	"bytes"
	"testing"

	"warder/secmon/event"
)

// words are a call's arguments.
func words(w ...uint64) (a [6]uint64) {
	copy(a[:], w)
	return a
}

const cwd = 0xffff_ff9c // AT_FDCWD as a 32-bit value

// TestFormat holds what is written against lines of strace.
func TestFormat(t *testing.T) {
	inet := "\x02\x00\x00\x50\xc0\x00\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00"
	inet6 := "\x0a\x00\x00\x35\x00\x00\x00\x00\x20\x01\x0d\xb8" + string(make([]byte, 11)) + "\x01\x00\x00\x00\x00"
	pieces := string(AppendPiece(AppendPiece(nil, 3, []byte("in ")), 5, []byte("pi")))
	message := string(AppendPiece(AppendMessage(nil, []byte(inet)), 2, []byte("hi")))
	for _, c := range []struct {
		call event.Call
		want string
	}{
		{event.Call{Name: "openat", ABI: "amd64", Args: words(cwd, 0x1000, 0x80000), Data: [6]string{1: "/etc/passwd"}, Read: 2, Returned: true, Result: 3},
			`openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3`},
		{event.Call{Name: "openat", ABI: "amd64", Args: words(5, 0x1000, 0x241, 0o644), Data: [6]string{1: "a\"\n\x01b"}, Read: 2, Returned: true, Result: -2},
			`openat(5, "a\"\n\1b", O_WRONLY|O_CREAT|O_TRUNC, 0644) = -1 ENOENT (No such file or directory)`},
		{event.Call{Name: "openat", ABI: "arm64", Args: words(cwd, 0x1000, 0x4000|0x8000)}, `openat(AT_FDCWD, 0x1000 /* not resident */, O_RDONLY|O_NOFOLLOW|O_DIRECTORY)`},
		{event.Call{Name: "write", ABI: "amd64", Args: words(1, 0x1000, 40), Data: [6]string{1: "0123456789012345678901234567890123456789"}, Read: 2, Returned: true, Result: 40},
			`write(1, "01234567890123456789012345678901"..., 40) = 40`},
		{event.Call{Name: "write", ABI: "amd64", Args: words(1, 0x1000, 4), Data: [6]string{1: "ab"}, Read: 2}, `write(1, "ab"..., 4)`},
		{event.Call{Name: "read", ABI: "amd64", Args: words(3, 0x1000, 100), Data: [6]string{1: "abc"}, Read: 2, Returned: true, Result: 3}, `read(3, "abc", 100) = 3`},
		{event.Call{Name: "read", ABI: "amd64", Args: words(3, 0x1000, 100)}, `read(3, 0x1000, 100)`},
		{event.Call{Name: "mmap", ABI: "amd64", Args: words(0, 8192, 3, 0x22, 0xffff_ffff, 0), Returned: true, Result: 0x7f0000000000},
			`mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000`},
		{event.Call{Name: "mprotect", ABI: "amd64", Args: words(0x7000, 4096, 0), Returned: true}, `mprotect(0x7000, 4096, PROT_NONE) = 0`},
		{event.Call{Name: "socket", ABI: "amd64", Args: words(2, 0x80001, 0), Returned: true, Result: 3}, `socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 3`},
		{event.Call{Name: "connect", ABI: "amd64", Args: words(3, 0x1000, 16), Data: [6]string{1: inet}, Read: 2, Returned: true, Result: -115},
			`connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("192.0.2.1")}, 16) = -1 EINPROGRESS (Operation now in progress)`},
		{event.Call{Name: "connect", ABI: "amd64", Args: words(3, 0x1000, 28), Data: [6]string{1: inet6}, Read: 2},
			`connect(3, {sa_family=AF_INET6, sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28)`},
		{event.Call{Name: "connect", ABI: "amd64", Args: words(3, 0x1000, 9), Data: [6]string{1: "\x01\x00/run/x\x00"}, Read: 2}, `connect(3, {sa_family=AF_UNIX, sun_path="/run/x"}, 9)`},
		{event.Call{Name: "bind", ABI: "amd64", Args: words(3, 0x1000, 6), Data: [6]string{1: "\x01\x00\x00abc"}, Read: 2}, `bind(3, {sa_family=AF_UNIX, sun_path=@"abc"}, 6)`},
		{event.Call{Name: "connect", ABI: "amd64", Args: words(3, 0x1000, 16), Data: [6]string{1: "\x28\x00\x00\x00\x00\x04\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00"}, Read: 2},
			`connect(3, {sa_family=AF_VSOCK, svm_cid=VMADDR_CID_HOST, svm_port=0x400}, 16)`},
		{event.Call{Name: "execve", ABI: "amd64", Args: words(0x1000, 0x2000, 0x3000), Data: [6]string{"/bin/ls", "ls\x00-l\x00", "A=1\x00B=2\x00"}, Read: 7, Returned: true},
			`execve("/bin/ls", ["ls", "-l"], 0x3000 /* 2 vars */) = 0`},
		{event.Call{Name: "writev", ABI: "arm64", Args: words(1, 0x1000, 2), Data: [6]string{1: pieces}, Read: 2}, `writev(1, [{iov_base="in ", iov_len=3}, {iov_base="pi"..., iov_len=5}], 2)`},
		{event.Call{Name: "sendmsg", ABI: "arm64", Args: words(3, 0x1000, 0x4000), Data: [6]string{1: message}, Read: 2},
			`sendmsg(3, {msg_name={sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("192.0.2.1")}, msg_namelen=16, msg_iov=[{iov_base="hi", iov_len=2}], msg_iovlen=1}, MSG_NOSIGNAL)`},
		{event.Call{Name: "pipe2", ABI: "amd64", Args: words(0x1000, 0x80000), Data: [6]string{"\x03\x00\x00\x00\x04\x00\x00\x00"}, Read: 1, Returned: true}, `pipe2([3, 4], O_CLOEXEC) = 0`},
		{event.Call{Name: "kill", ABI: "amd64", Args: words(0xffff_ffff, 9)}, `kill(-1, SIGKILL)`},
		{event.Call{Name: "lseek", ABI: "amd64", Args: words(3, 1<<64-5, 1), Returned: true, Result: 7}, `lseek(3, -5, SEEK_CUR) = 7`},
		{event.Call{Name: "fchmodat", ABI: "arm64", Args: words(cwd, 0x1000, 0o755), Data: [6]string{1: "x"}, Read: 2}, `fchmodat(AT_FDCWD, "x", 0755)`},
		{event.Call{Name: "clone", ABI: "amd64", Args: words(0x1200011, 0, 0, 0x7000, 0), Returned: true, Result: 77},
			`clone(SIGCHLD|CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID, NULL, NULL, 0x7000, NULL) = 77`},
		{event.Call{Name: "getpid", ABI: "amd64", Returned: true, Result: 4}, `getpid() = 4`},
		{event.Call{Name: "nanosleep", ABI: "amd64", Args: words(0x1000, 0), Data: [6]string{"\x01" + string(make([]byte, 7)) + "\x02" + string(make([]byte, 7))}, Read: 1, Returned: true, Result: -516},
			`nanosleep({tv_sec=1, tv_nsec=2}, NULL) = ? ERESTART_RESTARTBLOCK (Interrupted by signal)`},
		{event.Call{Name: "pread64", ABI: "i386", Args: words(3, 0x1000, 4, 5, 1)}, `pread64(3, 0x1000, 4, 4294967301)`},
		{event.Call{Name: "pread64", ABI: "arm", Args: words(3, 0x1000, 4, 99, 5, 1)}, `pread64(3, 0x1000, 4, 4294967301)`},
		{event.Call{Name: "execve"}, `execve(0, 0, 0, 0, 0, 0)`},
		{event.Call{Name: "no_such_call", ABI: "amd64", Args: words(1)}, `no_such_call(0x1, 0, 0, 0, 0, 0)`},
	} {
		if got := Format(&c.call, 32); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":           `""`,
		"\x001":      `"\0001"`,
		"\x7fa":      `"\177a"`,
		"\xff\x008":  `"\377\08"`,
		"\x1b[0m\\":  `"\33[0m\\"`,
		"0123456789": `"01234567"...`,
	} {
		if got := Quote(in, 8); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// FuzzData writes calls with whatever a guest left where they point to.
func FuzzData(f *testing.F) {
	f.Add(uint8(0), uint16(1), []byte("\x02\x00"), uint64(3))
	f.Fuzz(func(t *testing.T, abi uint8, number uint16, data []byte, word uint64) {
		a := ABI(abi % uint8(abis))
		call := ByNumber(a, int(number)%480)
		if call == nil {
			return
		}
		c := event.Call{Name: call.Name, ABI: a.String(), Args: words(word, word, word, word, word, word), Read: 0x3f, Returned: true, Result: int64(word)}
		for i := range c.Data {
			c.Data[i] = string(data)
		}
		if s := Format(&c, 32); s == "" || bytes.ContainsAny([]byte(s), "\x00\n\x7f") {
			t.Errorf("%q", s)
		}
	})
}
