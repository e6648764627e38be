package main

import (
	"net/url"
	"path/filepath"

	"github.com/vouchsafe/vouchsafe/chain"
	"github.com/vouchsafe/vouchsafe/finding"
)

// sarifLog renders reports as a SARIF 2.1.0 log (OASIS), the form that code
// scanning of GitHub and GitLab takes.
func sarifLog(reports []*chain.Report) map[string]any {
	levels := map[finding.Severity]string{finding.Error: "error", finding.Warning: "warning", finding.Info: "note"}
	results := []any{}
	rules := []any{}
	seen := map[string]int{}
	for _, r := range reports {
		for _, f := range r.Findings {
			i, ok := seen[f.Code]
			if !ok {
				i = len(rules)
				seen[f.Code] = i
				rules = append(rules, map[string]any{
					"id":               f.Code,
					"shortDescription": map[string]string{"text": f.Meaning},
					"help":             map[string]string{"text": f.Remedy},
				})
			}
			// Code scanning wants a line, of binary files too.
			region := map[string]int{"startLine": max(f.Place.Line, 1)}
			if f.Place.Byte >= 0 {
				region["byteOffset"] = f.Place.Byte
			}
			where := (&url.URL{Path: filepath.ToSlash(r.Input)}).EscapedPath()
			physical := map[string]any{"artifactLocation": map[string]string{"uri": where}, "region": region}
			results = append(results, map[string]any{
				"ruleId": f.Code, "ruleIndex": i, "level": levels[f.Severity],
				"message":   map[string]string{"text": f.Evidence + ". " + f.Meaning + " " + f.Remedy},
				"locations": []any{map[string]any{"physicalLocation": physical}},
			})
		}
	}
	return map[string]any{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json",
		"version": "2.1.0",
		"runs": []any{map[string]any{
			"tool":    map[string]any{"driver": map[string]any{"name": "vouchsafe chain", "version": version, "rules": rules}},
			"results": results,
		}},
	}
}
