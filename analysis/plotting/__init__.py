"""What figures and pages share: style, HTML pages, scatter maps, colourings, the explorer."""
