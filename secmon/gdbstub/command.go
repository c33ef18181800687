package gdbstub

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Answers. An empty one says that a packet is not known.
const (
	ok          = "OK"
	errorBad    = "E16" // EINVAL: the packet makes no sense
	errorFailed = "E0e" // EFAULT: the target could not
	errorBusy   = "E10" // EBUSY: the target runs
	unknown     = ""
)

// command answers one packet.
func (s *session) command(p string) error {
	if p == "" {
		return s.answer(unknown)
	}
	switch rest := p[1:]; p[0] {
	case '?':
		return s.answer(s.stopReply())
	case 'g':
		return s.answer(s.readAll())
	case 'G':
		return s.answer(s.writeAll(rest))
	case 'p':
		return s.answer(s.readOne(rest))
	case 'P':
		return s.answer(s.writeOne(rest))
	case 'm':
		return s.answer(s.readMemory(rest))
	case 'M':
		return s.answer(s.writeMemory(rest, hex.DecodeString))
	case 'X':
		return s.answer(s.writeMemory(rest, func(s string) ([]byte, error) { return []byte(s), nil }))
	case 'H':
		return s.answer(s.selectThread(rest))
	case 'T':
		return s.answer(s.isAlive(rest))
	case 'Z':
		return s.answer(s.breakpoint(rest, func(b Break) error { return s.t.Insert(s.thread, b) }))
	case 'z':
		return s.answer(s.breakpoint(rest, s.t.Remove))
	case 'c', 'C', 's', 'S':
		return s.resumeOld(p)
	case 'D':
		return s.detach()
	case 'k':
		return s.kill(unknown)
	case 'v':
		return s.verbose(p)
	case 'q', 'Q':
		return s.query(p)
	}
	return s.answer(unknown)
}

func (s *session) answer(a string) error { return s.c.send([]byte(a)) }

func (s *session) detach() error {
	if err := s.t.Detach(); err != nil {
		return errors.Join(s.answer(errorFailed), err, errDetached)
	}
	return errors.Join(s.answer(ok), errDetached)
}

// kill ends the target. What k is answered nobody reads.
func (s *session) kill(answer string) error {
	if err := s.t.Kill(); err != nil {
		return s.answer(errorFailed)
	}
	if answer != unknown {
		if err := s.answer(answer); err != nil {
			return err
		}
	}
	return errKilled
}

// verbose are the packets with a name.
func (s *session) verbose(p string) error {
	switch {
	case p == "vCont?":
		return s.answer("vCont;c;C;s;S")
	case strings.HasPrefix(p, "vCont;"):
		return s.resume(p[len("vCont;"):])
	case strings.HasPrefix(p, "vKill;"):
		return s.kill(ok)
	case strings.HasPrefix(p, "vFile:"):
		return s.c.send(s.hostFile(p[len("vFile:"):]))
	}
	return s.answer(unknown)
}

// resume is vCont: for each thread the first action that names it, or all.
func (s *session) resume(list string) error {
	var actions []Action
	taken := map[int]bool{}
	for part := range strings.SplitSeq(list, ";") {
		what, id, named := strings.Cut(part, ":")
		if what == "" || !strings.Contains("cCsS", what[:1]) {
			return s.answer(errorBad)
		}
		which, valid := 0, true
		if named {
			which, valid = parseThread(id)
		}
		if !valid {
			return s.answer(errorBad)
		}
		for _, t := range s.t.Threads() {
			if (which <= 0 || t.ID == which) && !taken[t.ID] {
				taken[t.ID] = true
				actions = append(actions, Action{Thread: t.ID, Step: what[0] == 's' || what[0] == 'S'})
			}
		}
	}
	return s.run(actions)
}

// resumeOld is c and s, and C and S with a signal, which nothing here takes.
func (s *session) resumeOld(p string) error {
	step := p[0] == 's' || p[0] == 'S'
	if len(p) > 1 && (p[0] == 'c' || p[0] == 's') || strings.Contains(p, ";") {
		return s.answer(errorBad) // at another address: GDB sets the program counter
	}
	var actions []Action
	for _, t := range s.t.Threads() {
		if !step || t.ID == s.thread {
			actions = append(actions, Action{Thread: t.ID, Step: step})
		}
	}
	return s.run(actions)
}

// run lets the target go; the answer is the next stop.
func (s *session) run(actions []Action) error {
	if len(actions) == 0 || s.stop.Reason == Exited || s.stop.Reason == Killed {
		return s.answer(errorBad)
	}
	if err := s.t.Resume(actions); err != nil {
		return s.answer(errorFailed)
	}
	s.running = true
	return nil
}

// parseThread reads a thread's number: -1 is all, 0 any.
func parseThread(id string) (int, bool) {
	if id == "-1" {
		return -1, true
	}
	n, err := strconv.ParseUint(id, 16, 31)
	return int(n), err == nil
}

func (s *session) hasThread(id int) bool {
	for _, t := range s.t.Threads() {
		if t.ID == id {
			return true
		}
	}
	return false
}

// selectThread is H: the thread that registers and memory are asked of. That of
// steps comes with them.
func (s *session) selectThread(p string) string {
	if p == "" {
		return errorBad
	}
	id, valid := parseThread(p[1:])
	if !valid || id > 0 && !s.hasThread(id) {
		return errorBad
	}
	if p[0] == 'g' && id > 0 {
		s.thread = id
	}
	return ok
}

func (s *session) isAlive(p string) string {
	if id, valid := parseThread(p); valid && s.hasThread(id) {
		return ok
	}
	return errorBad
}

// breakpoint is Z and z: kind,address,length and what we do not understand
// behind, which GDB sends only who asked for it.
func (s *session) breakpoint(p string, do func(Break) error) string {
	kind, rest, _ := strings.Cut(p, ",")
	where, more, _ := strings.Cut(rest, ";")
	addr, length, valid := parsePair(where)
	k, err := strconv.ParseUint(kind, 16, 8)
	if err != nil || k > uint64(WatchAccess) || !valid {
		return unknown
	}
	if more != "" {
		return errorBad
	}
	switch err := do(Break{BreakKind(k), addr, length}); {
	case errors.Is(err, errors.ErrUnsupported):
		return unknown
	case err != nil:
		return errorFailed
	}
	return ok
}

// parsePair reads two numbers in hex with a comma between them.
func parsePair(p string) (a, b uint64, ok bool) {
	first, second, found := strings.Cut(p, ",")
	a, err := strconv.ParseUint(first, 16, 64)
	b, err2 := strconv.ParseUint(second, 16, 64)
	return a, b, found && err == nil && err2 == nil
}

// maxMemory is how much memory is read at once: what fits into a packet in hex.
const maxMemory = packetSize / 2

func (s *session) readMemory(p string) string {
	addr, n, valid := parsePair(p)
	if !valid {
		return errorBad
	}
	data := make([]byte, min(n, maxMemory))
	got, err := s.t.ReadMemory(s.thread, addr, data)
	if got == 0 && len(data) > 0 || err != nil && got < 0 {
		return errorFailed
	}
	return hex.EncodeToString(data[:min(got, len(data))])
}

func (s *session) writeMemory(p string, decode func(string) ([]byte, error)) string {
	where, encoded, found := strings.Cut(p, ":")
	addr, n, valid := parsePair(where)
	data, err := decode(encoded)
	if !found || !valid || err != nil || uint64(len(data)) != n {
		return errorBad
	}
	if n == 0 {
		return ok // a question whether X is known
	}
	if err := s.t.WriteMemory(s.thread, addr, data); err != nil {
		return errorFailed
	}
	return ok
}

func (s *session) readAll() string {
	all, err := s.t.ReadRegisters(s.thread)
	if err != nil {
		return errorFailed
	}
	return hex.EncodeToString(all)
}

func (s *session) writeAll(p string) string {
	all, err := hex.DecodeString(p)
	if err != nil {
		return errorBad
	}
	before, err := s.t.ReadRegisters(s.thread)
	if err != nil {
		return errorFailed
	}
	at := 0
	for n, size := range s.sizes {
		if at+size > len(all) || at+size > len(before) {
			break
		}
		if value := all[at : at+size]; string(value) != string(before[at:at+size]) {
			if s.t.WriteRegister(s.thread, n, value) != nil {
				return errorFailed
			}
		}
		at += size
	}
	return ok
}

func (s *session) readOne(p string) string {
	n, err := strconv.ParseUint(p, 16, 16)
	if err != nil || n >= uint64(len(s.sizes)) {
		return errorBad
	}
	all, err := s.t.ReadRegisters(s.thread)
	if err != nil {
		return errorFailed
	}
	at := 0
	for _, size := range s.sizes[:n] {
		at += size
	}
	if at+s.sizes[n] > len(all) {
		return errorFailed
	}
	return hex.EncodeToString(all[at : at+s.sizes[n]])
}

func (s *session) writeOne(p string) string {
	number, encoded, _ := strings.Cut(p, "=")
	n, err := strconv.ParseUint(number, 16, 16)
	value, err2 := hex.DecodeString(encoded)
	if err != nil || err2 != nil || n >= uint64(len(s.sizes)) || len(value) != s.sizes[n] {
		return errorBad
	}
	if err := s.t.WriteRegister(s.thread, int(n), value); err != nil {
		return errorFailed
	}
	return ok
}

// threadList is the threads' numbers as qfThreadInfo has them.
func (s *session) threadList() string {
	var b strings.Builder
	for i, t := range s.t.Threads() {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%x", t.ID)
	}
	return b.String()
}
