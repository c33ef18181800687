package main

import (
	"bytes"
	"fmt"
	"html"

	"warder/lab/bench/measure"
)

// The plot's measures, in pixels.
const (
	plotWidth  = 860
	labelWidth = 330
	barWidth   = 400
	lineHeight = 20
	barHeight  = 14
)

// plot draws a bar for each median that has a good direction, the bars of one
// quantity on one scale, as an SVG image.
func plot(r *measure.Report) []byte {
	var b bytes.Buffer
	y := lineHeight
	for _, bench := range benchmarksOf(r) {
		_, quantities := axes(r, bench)
		for _, q := range quantities {
			y = plotQuantity(&b, r, bench+"/"+q.name, y)
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, y)
	fmt.Fprintf(&out, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	out.Write(b.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// plotQuantity draws one quantity from y on and returns where the next begins.
func plotQuantity(b *bytes.Buffer, r *measure.Report, name string, y int) int {
	var results []measure.Result
	top := 0.0
	for _, x := range r.Results {
		if x.Name == name && x.Better != measure.Neither {
			results = append(results, x)
			top = max(top, x.Median())
		}
	}
	if len(results) == 0 || top <= 0 {
		return y
	}
	text := func(x, y int, weight, anchor, s string) {
		fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="%s" text-anchor="%s">%s</text>`+"\n", x, y, weight, anchor, html.EscapeString(s))
	}
	text(10, y, "bold", "start", fmt.Sprintf("%s, %s (%s is better)", name, results[0].Unit, results[0].Better))
	for _, x := range results {
		y += lineHeight
		colour := "#9aa5b1"
		if x.Peer == "warder" {
			colour = "#2f6f9f"
		}
		width := int(x.Median() / top * barWidth)
		text(labelWidth-10, y, "normal", "end", x.Peer)
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", labelWidth, y-barHeight+3, width, barHeight, colour)
		text(labelWidth+width+6, y, "normal", "start", number(x.Median()))
	}
	return y + 2*lineHeight
}
