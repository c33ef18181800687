// Package measure is what a benchmark gives: named measurements of peers, taken
// in one run, with as many values as it was repeated.
package measure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// A Result is one measurement of one peer.
type Result struct {
	Name   string // benchmark/quantity, as in boot/time
	Peer   string // what was measured, as in "warder"
	Unit   string // of the values
	Better Better
	Values []float64 // one a repetition, in their order, at least one
}

// Better says which values are the good ones.
type Better string

const (
	Less    Better = "less"
	More    Better = "more"
	Neither Better = "neither" // it explains another measurement
)

// Min is the least value.
func (r Result) Min() float64 { return slices.Min(r.Values) }

// Max is the greatest value.
func (r Result) Max() float64 { return slices.Max(r.Values) }

// Median is the value in the middle, or the mean of the two there.
func (r Result) Median() float64 {
	s := slices.Sorted(slices.Values(r.Values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// A Report is all results of one run, with what they depend on.
type Report struct {
	Arch    string            // GOARCH's name
	About   map[string]string // what was measured with: versions by name
	Results []Result
	Absent  []Absent
}

// An Absent is a measurement that was not made, and why.
type Absent struct{ Name, Peer, Why string }

// Find returns the result of a peer.
func (r *Report) Find(name, peer string) (Result, bool) {
	i := slices.IndexFunc(r.Results, func(x Result) bool { return x.Name == name && x.Peer == peer })
	if i < 0 {
		return Result{}, false
	}
	return r.Results[i], true
}

// Add adds a value to the result that it belongs to, the first time with all
// that there is to say of it.
func (r *Report) Add(name, peer, unit string, better Better, value float64) {
	for i := range r.Results {
		if x := &r.Results[i]; x.Name == name && x.Peer == peer {
			x.Values = append(x.Values, value)
			return
		}
	}
	r.Results = append(r.Results, Result{name, peer, unit, better, []float64{value}})
}

// Merge adds the results of another run, and what it was measured with.
func (r *Report) Merge(other *Report) {
	maps.Copy(r.About, other.About)
	for _, x := range other.Results {
		for _, v := range x.Values {
			r.Add(x.Name, x.Peer, x.Unit, x.Better, v)
		}
	}
	r.Absent = append(r.Absent, other.Absent...)
}

// result is a Result in JSON. What can be computed is there for readers that
// do not compute, and is not read back.
type result struct {
	Name   string    `json:"name"`
	Peer   string    `json:"peer"`
	Unit   string    `json:"unit"`
	Better Better    `json:"better"`
	N      int       `json:"n"`
	Min    float64   `json:"min"`
	Median float64   `json:"median"`
	Max    float64   `json:"max"`
	Values []float64 `json:"values"`
}

// report is a Report in JSON.
type report struct {
	Arch    string            `json:"arch"`
	About   map[string]string `json:"about,omitempty"`
	Results []result          `json:"results"`
	Absent  []absent          `json:"absent,omitempty"`
}

type absent struct {
	Name string `json:"name"`
	Peer string `json:"peer"`
	Why  string `json:"why"`
}

// Write writes r as JSON.
func (r *Report) Write(w io.Writer) error {
	out := report{Arch: r.Arch, About: r.About}
	for _, x := range r.Results {
		out.Results = append(out.Results, result{x.Name, x.Peer, x.Unit, x.Better, len(x.Values), x.Min(), x.Median(), x.Max(), x.Values})
	}
	for _, a := range r.Absent {
		out.Absent = append(out.Absent, absent(a))
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

// Read reads what Write wrote.
func Read(r io.Reader) (*Report, error) {
	var in report
	if err := json.NewDecoder(r).Decode(&in); err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	out := &Report{Arch: in.Arch, About: in.About}
	if out.About == nil {
		out.About = map[string]string{}
	}
	for _, x := range in.Results {
		if x.Name == "" || x.Peer == "" || len(x.Values) == 0 {
			return nil, errors.New("results: one has no name, no peer or no values")
		}
		out.Results = append(out.Results, Result{x.Name, x.Peer, x.Unit, x.Better, x.Values})
	}
	for _, a := range in.Absent {
		out.Absent = append(out.Absent, Absent(a))
	}
	return out, nil
}
