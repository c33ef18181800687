package splice

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/pattern/record"
)

// MaxPayload is how much of one write rules look at. A part that is longer has
// an unknown rest, and nothing matches across that.
const MaxPayload = 64 << 10

// maxTimespan bounds how long parts are kept.
const maxTimespan = 24 * time.Hour

// Stats count what the engine did.
type Stats struct {
	Parts          uint64 // contributions stored
	Triggers       uint64 // acts on files of shares, and others, that could have completed a pattern
	Undecided      uint64 // triggers whose object could not be told
	Repeated       uint64 // matches that had been reported before
	EvictedObjects uint64 // to keep within the limits: each may hide a match
	EvictedParts   uint64
}

// Found is a pattern that an act completes.
type Found struct {
	Rule    *Rule
	Finding *event.Finding
	// Repeated says that the same was found before, for the same VM and parts.
	Repeated bool
}

// Engine evaluates splices over the events of all VMs. It is safe for
// concurrent use.
type Engine struct {
	loaded atomic.Pointer[loaded]

	mu    sync.Mutex
	store *store
	stats Stats
}

// loaded is rules, by kinds of objects. It is not changed.
type loaded struct {
	rules []*Rule
	kinds []*kind
}

// kind is the rules about one kind of object and of parts.
type kind struct {
	object, content string        // fields
	key             *record.Field // reads object; nil for files
	bytes           *record.Field // reads content; nil for what calls write
	parts           map[string]bool
	triggers        map[string][]int
	span            time.Duration // the longest of any rule
}

// New makes an engine for rules, within limits.
func New(rules []*Rule, limits Limits) *Engine {
	e := &Engine{store: newStore(limits)}
	e.loaded.Store(load(rules))
	return e
}

func load(rules []*Rule) *loaded {
	l := &loaded{rules: rules}
	for i, r := range rules {
		k := l.kind(r.Splice.Object, r.Splice.Content)
		for _, call := range r.Splice.Parts {
			k.parts[call] = true
		}
		for _, call := range r.Splice.Triggers {
			k.triggers[call] = append(k.triggers[call], i)
		}
		k.span = max(k.span, r.Splice.Timespan)
	}
	return l
}

// kind gives the kind of an object and content, made where there is none.
func (l *loaded) kind(object, content string) *kind {
	for _, k := range l.kinds {
		if k.object == object && k.content == content {
			return k
		}
	}
	k := &kind{object: object, content: content, parts: make(map[string]bool), triggers: make(map[string][]int)}
	if object != "file" {
		k.key, _ = record.Native.Any(object)
	}
	if content != "" {
		k.bytes, _ = record.Native.Any(content)
	}
	l.kinds = append(l.kinds, k)
	return k
}

// Reload has the engine evaluate other rules from now on. Parts that were
// contributed stay.
func (e *Engine) Reload(rules []*Rule) {
	next := load(rules)
	e.mu.Lock() // what is being taken in is taken by the rules of before
	defer e.mu.Unlock()
	e.loaded.Store(next)
}

// Needs tells which system calls have to be reported for the rules to work, and
// how many bytes of what they write.
func (e *Engine) Needs() (calls []string, payload int) {
	for _, k := range e.loaded.Load().kinds {
		var named []string
		named = slices.AppendSeq(named, maps.Keys(k.parts))
		named = slices.AppendSeq(named, maps.Keys(k.triggers))
		named = slices.DeleteFunc(named, func(act string) bool { return IsMessage(act) || IsShare(act) })
		if k.key == nil && len(named) > 0 {
			named = append(named, "openat") // gives names to new files
		}
		calls = append(calls, named...)
		payload = MaxPayload
	}
	slices.Sort(calls)
	return slices.Compact(calls), payload
}

// Observe takes one event, before the act takes place that it reports, and
// gives the patterns that the act completes.
//
// Parts are ordered by the time of their events, in whatever order they are
// observed; a trigger is decided on what has been observed before it.
func (e *Engine) Observe(ev *event.Event) []Found {
	if !e.loaded.Load().concerns(ev) {
		return nil
	}
	var found []Found
	for _, t := range e.take(ev) {
		// A guest can make this take long, but only for itself: nobody else's
		// act waits for it.
		for _, i := range t.rules {
			if f := t.engine[i].evaluate(t.parts, *ev); f != nil {
				found = append(found, Found{t.engine[i], f, e.repeated(t, alertKey{t.engine[i].Key(), ev.VM})})
			}
		}
	}
	return found
}

// trigger is an act that could complete a pattern, and its object as it was
// when the act was observed.
type trigger struct {
	engine  []*Rule // the rules of that moment
	rules   []int
	object  *object
	version uint64
	parts   []part
}

// take stores what an event contributes, and gives the objects on which it could
// complete a pattern.
func (e *Engine) take(ev *event.Event) (triggers []*trigger) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.loaded.Load()
	for _, k := range l.kinds {
		if k.key == nil {
			triggers = e.takeFile(l, k, ev, triggers)
		} else {
			triggers = e.takeOther(l, k, ev, triggers)
		}
	}
	return triggers
}

// concerns says whether there is anything to take of an event, without a look at
// what is stored: most events need not wait for that.
func (l *loaded) concerns(ev *event.Event) bool {
	name := act(ev)
	if name == "" {
		return false
	}
	c := &ev.Call
	ours := c.File.Share != "" || c.Missing&(event.MissingPath|event.MissingFile) != 0
	for _, k := range l.kinds {
		if k.key == nil && !ours {
			continue // a file of the guest's own
		}
		if k.parts[name] || k.triggers[name] != nil || k.key == nil && (name == "openat" || name == share+"create") {
			return true
		}
	}
	return false
}

func (e *Engine) takeFile(l *loaded, k *kind, ev *event.Event, triggers []*trigger) []*trigger {
	c, name := &ev.Call, act(ev)
	switch {
	case name == "openat" && c.Flags&unix.O_CREAT != 0 && c.File.Absent:
		e.store.unname(c.File)
	case name == share+"create": // the number can be that of a file that was deleted
		if o := e.store.byInode[inodeKey{c.File.Device, c.File.Inode}]; o != nil {
			e.store.drop(o)
		}
	}
	if rules := k.triggers[name]; rules != nil && !(name == "openat" && c.Flags&unix.O_ACCMODE == unix.O_WRONLY) {
		e.stats.Triggers++
		switch {
		case c.Missing&(event.MissingPath|event.MissingFile) != 0:
			e.stats.Undecided++
		case c.File.Share != "":
			triggers = e.trigger(l, k, ev, e.store.find(c.File), triggers)
		}
		return triggers
	}
	if k.parts[name] && c.File.Share != "" && c.Size > 0 && (ev.Kind == event.FileAct || c.Flags&unix.O_ACCMODE != unix.O_RDONLY) {
		e.contribute(k, e.store.add(c.File), *ev)
	}
	return triggers
}

// takeOther is for objects that are the value of a field.
func (e *Engine) takeOther(l *loaded, k *kind, ev *event.Event, triggers []*trigger) []*trigger {
	rules, part := k.triggers[act(ev)], k.parts[act(ev)]
	if rules == nil && !part {
		return triggers
	}
	v := k.key.Value(ev)
	if rules != nil {
		e.stats.Triggers++
		if v.State != record.Present {
			e.stats.Undecided++
		}
	}
	if v.State != record.Present {
		return triggers
	}
	name := k.object + "=" + v.String() + " " + k.content // no path: those begin with /
	if part && ev.Kind == event.Packet {
		e.contributeTo(k, name, ev)
	}
	if rules != nil {
		triggers = e.trigger(l, k, ev, e.store.byPath[name], triggers)
	}
	if part && ev.Kind != event.Packet {
		e.contributeTo(k, name, ev)
	}
	return triggers
}

// contributeTo adds what an act contributes to an object that is no file.
func (e *Engine) contributeTo(k *kind, name string, ev *event.Event) {
	c := *ev
	if k.bytes != nil {
		c.Call.Payload = []byte(k.bytes.Value(ev).String())
		c.Call.Size = uint64(len(c.Call.Payload))
	}
	if c.Call.Size > 0 {
		e.contribute(k, e.store.named(name), c)
	}
}

func (e *Engine) contribute(k *kind, o *object, ev event.Event) {
	e.store.expire(o, ev.Time-int64(k.span))
	e.store.contribute(o, ev)
	e.stats.Parts++
}

func (e *Engine) trigger(l *loaded, k *kind, ev *event.Event, o *object, triggers []*trigger) []*trigger {
	if o == nil {
		return triggers
	}
	e.store.expire(o, ev.Time-int64(k.span))
	return append(triggers, &trigger{l.rules, k.triggers[act(ev)], o, o.version, slices.Clone(o.parts)})
}

// repeated notes that a rule matched an object, and says whether it had before
// with the same parts.
func (e *Engine) repeated(t *trigger, key alertKey) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.object.alerted[key] == t.version {
		e.stats.Repeated++
		return true
	}
	if t.object.alerted == nil {
		t.object.alerted = make(map[alertKey]uint64)
	}
	t.object.alerted[key] = t.version
	return false
}

// evaluate matches one rule on the parts of an object that an act has been
// done to.
func (r *Rule) evaluate(all []part, ev event.Event) *event.Finding {
	s := &r.Splice
	var parts []part
	for _, p := range all {
		age := ev.Time - p.event.Time
		if age >= 0 && age <= int64(s.Timespan) && slices.Contains(s.Parts, act(&p.event)) {
			parts = append(parts, p)
		}
	}
	if len(parts) < s.VMs {
		return nil
	}
	size, content := int64(-1), []byte(nil)
	if s.Object == "file" {
		size, content = ev.Call.File.Size, ev.Call.Payload
	}
	m := s.find(parts, size, content)
	if m == nil {
		return nil
	}
	vms := m.vms(parts)
	if len(vms) < s.VMs || s.Other && slices.Contains(vms, ev.VM) {
		return nil
	}
	if !slices.Contains(vms, ev.VM) {
		vms = append(vms, ev.VM)
	}
	ev.Call.Payload = nil
	if r.Block {
		ev.Call.Denied = uint16(unix.EPERM)
	}
	return &event.Finding{
		RuleID: r.Key(), RuleTitle: r.Title, Level: r.Level, VMs: vms,
		Acts: completed(m.acts(parts), ev), Matched: m.texts, Response: r.Response,
	}
}

// completed are the acts that matched and the one that completed the pattern, which is
// the last of them where it was a message.
func completed(acts []event.Event, ev event.Event) []event.Event {
	if n := len(acts); n > 0 && ev.Kind == event.Packet {
		if last := &acts[n-1]; last.Kind == ev.Kind && last.VM == ev.VM && last.Time == ev.Time && last.Seq == ev.Seq {
			last.Call.Denied = ev.Call.Denied
			return acts
		}
	}
	return append(acts, ev)
}

// Stats gives the counts so far.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.EvictedObjects, s.EvictedParts = e.store.evictedObjects, e.store.evictedParts
	return s
}

// Explain says what parts are held.
func (e *Engine) Explain() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var lines []string
	for el := e.store.recent.Front(); el != nil && len(lines) < maxExplained; el = el.Next() {
		o := el.Value.(*object)
		var vms []string
		for _, p := range o.parts {
			if !slices.Contains(vms, p.event.VM) {
				vms = append(vms, p.event.VM)
			}
		}
		lines = append(lines, fmt.Sprintf("%s: %d parts by %s, %d executions or uses looked at", o.path, len(o.parts), strings.Join(vms, ", "), e.stats.Triggers))
	}
	if len(lines) == 0 {
		lines = []string{"no VM contributed a part"}
	}
	return lines
}

// maxExplained is how many objects an explanation names.
const maxExplained = 10
