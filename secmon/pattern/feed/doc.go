// Package feed brings rules from those who write them to those who run them, as
// a repository of The Update Framework (https://theupdateframework.io): signed,
// and safe against old, mixed, stale and endless answers.
//
// [Publish] makes such a repository of a directory of rules. [Library.Update]
// gets the rules of one, checks that all of them load, and only then puts them in
// the place of those that were there: what fails leaves the last good rules in
// force.
package feed
