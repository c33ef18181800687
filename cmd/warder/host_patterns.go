package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"warder/secmon/event"
	"warder/secmon/pattern"
	"warder/secmon/pattern/feed"
	"warder/secmon/pattern/sigma"
	"warder/secmon/watch"
)

// patternsConfig is what a configuration says of rules from others.
type patternsConfig struct {
	// Library is the directory in which they are kept.
	Library string       `yaml:"library"`
	Sources []sourceFile `yaml:"sources"`
	// Update is how often they are asked for again.
	Update string `yaml:"update"`
	// Placeholders are values for %NAME% in rules.
	Placeholders map[string][]string `yaml:"placeholders"`

	every time.Duration
}

// sourceFile is one source: a repository, and the file of its root of trust.
type sourceFile struct {
	Name string `yaml:"name"`
	URL  string `yaml:"url"`
	Root string `yaml:"root"`
	// Responses are those that its rules may ask for; all where nothing is said.
	Responses []pattern.Response `yaml:"responses"`
}

const (
	updateEvery = 6 * time.Hour // by default
	// updateLeast is how often a source may be asked at the most.
	updateLeast = time.Second
	// updateTime is how long one source may take to answer.
	updateTime = 2 * time.Minute
)

// check makes paths absolute and says what is wrong.
func (p *patternsConfig) check(base string) (err error) {
	p.every = updateEvery
	if p.Update != "" {
		if p.every, err = time.ParseDuration(p.Update); err != nil || p.every < updateLeast {
			return fmt.Errorf("patterns: update: %q: give a time as 6h or 30m", p.Update)
		}
	}
	if len(p.Sources) > 0 && p.Library == "" {
		return errors.New("patterns: sources have their rules in a directory: give it as library")
	}
	if p.Library != "" {
		if p.Library, err = absolute(base, p.Library); err != nil {
			return err
		}
	}
	for i := range p.Sources {
		s := &p.Sources[i]
		if s.Name == "" || s.URL == "" || s.Root == "" {
			return fmt.Errorf("patterns: source %d: give name, url and root, the file of its root of trust", i+1)
		}
		if s.Root, err = absolute(base, s.Root); err != nil {
			return err
		}
		if s.URL, err = address(base, s.URL); err != nil {
			return err
		}
	}
	return nil
}

// files are those that the configuration names, for the lab. A library that is not
// there yet is made where it is used.
func (p *patternsConfig) files() (files []string) {
	if _, err := os.Stat(p.Library); err == nil {
		files = append(files, p.Library)
	}
	for _, s := range p.Sources {
		files = append(files, s.Root)
		if dir, ok := localRepository(s.URL); ok {
			files = append(files, dir)
		}
	}
	return files
}

// options are what rules are read with.
func (c *hostConfig) options() sigma.Options {
	return sigma.Options{Placeholders: c.Patterns.Placeholders}
}

// rules reads those that are there without a source.
func (c *hostConfig) rules() ([]*sigma.Rule, error) {
	switch {
	case c.shipped != "":
		return pattern.ShippedFileRules(c.shipped)
	case c.Rules != "":
		return readRules(c.Rules, c.options())
	}
	return pattern.ShippedRules()
}

// library is the rules that the configuration asks for.
type library struct {
	feed      feed.Library
	scheduled bool // they are looked at again and again
	now       *pattern.Library
}

// openLibrary makes the configuration's sources those of its library and loads
// what is in force. Sources that cannot be used are told of in left.
func (c *hostConfig) openLibrary() (l *library, left []error, err error) {
	p := &c.Patterns
	l = &library{feed: feed.Library{Dir: p.Library, Base: c.rules, Options: c.options()}, scheduled: p.Library != "" || p.Update != ""}
	for _, s := range p.Sources {
		text, err := os.ReadFile(s.Root)
		if err != nil {
			return nil, nil, fmt.Errorf("source %s: the root of trust: %w", s.Name, err)
		}
		if err := l.feed.Add(feed.Source{Name: s.Name, URL: s.URL, Root: text, Responses: s.Responses}); err != nil {
			return nil, nil, err
		}
		l.feed.Only = append(l.feed.Only, s.Name)
	}
	l.now, left, err = l.feed.Load()
	return l, left, err
}

// keepUpdated asks all sources for their rules, now and again and again, and has
// the watch evaluate what is new, until ctx ends. What fails is an event, and
// leaves the rules of before in force.
func (l *library) keepUpdated(ctx context.Context, every time.Duration, w *watch.Watch) {
	for {
		l.update(ctx, w)
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// Words for event.action.
const (
	rulesInForce = "rules-loaded"
	rulesUpdated = "rules-updated"
	rulesRefused = "rules-refused"
)

func (l *library) update(ctx context.Context, w *watch.Watch) {
	tell := func(action, format string, args ...any) {
		if ctx.Err() == nil {
			w.Events.Put(event.Event{Time: time.Now().UnixNano(), Kind: event.Host, Action: action, Message: fmt.Sprintf(format, args...)})
		}
	}
	sources, err := l.feed.Sources()
	if err != nil {
		tell(rulesRefused, "%v", err)
	}
	for _, s := range sources {
		soon, cancel := context.WithTimeout(ctx, updateTime)
		u, err := l.feed.Update(soon, s, time.Now())
		cancel()
		if err != nil {
			tell(rulesRefused, "%v", err)
		} else if u.Changed {
			tell(rulesUpdated, "source %s: %s %s, %s", s.Name, u.Pack.Name, u.Pack.Version, count(uint64(u.Rules), "rule"))
		}
	}
	// Also when nothing came: a directory may have been changed by hand.
	next, left, err := l.feed.Load()
	for _, e := range left {
		tell(rulesRefused, "%v; it is left out", e)
	}
	if err != nil {
		tell(rulesRefused, "%v; the rules of before stay in force", err)
		return
	}
	if next.Same(l.now) {
		_ = w.Rearm(ctx) // which says itself what it cannot do
		return
	}
	if err := w.Reload(ctx, next); err != nil && w.Library() != next {
		tell(rulesRefused, "%v; the rules of before stay in force", err)
		return
	}
	l.now = next
	tell(rulesUpdated, "in force: %s%s", count(uint64(len(next.Rules)), "rule"), unseen(next))
}

// unseen says which calls rules need that cannot be trapped, "" for none.
func unseen(l *pattern.Library) string {
	calls := watch.Unseen(l)
	if len(calls) == 0 {
		return ""
	}
	return fmt.Sprintf("; %s that they need cannot be trapped: warder patterns lint has them", count(uint64(len(calls)), "system call"))
}

// localRepository is the directory behind an address, if it is one.
func localRepository(url string) (string, bool) {
	const scheme = "file://"
	if len(url) < len(scheme) || url[:len(scheme)] != scheme {
		return "", false
	}
	return filepath.Clean(url[len(scheme):]), true
}
